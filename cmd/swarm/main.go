// Command swarm puts load on scanlogin: browsers that hold event streams, people who log
// in at random moments, connections that are lost and come back. It says how long each
// step took, and whether that was good enough.
//
// The load is open-loop: what happens when is drawn beforehand, and a server that is slow
// doesn't slow it down. Latencies run from the moment at which a step was due ("intended")
// and, beside that, from the moment at which it was really begun ("service"). What had no
// answer by the end of the run is in them with its age, so that the worst is never left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const about = `swarm: load for scanlogin, and how it was borne

It holds event streams as browsers do (-streams), lets people open the page, scan and log in at
random moments (-logins), lets others scan what the held streams show (-scans), and lets
connections break and come back (-churn). All four combine. The -for begins when the streams are held; afterwards no new step is begun, and what is under way
has -grace to be answered.

With -scans each held code is scanned once, by somebody whom nobody knows: bind-required comes, and
the stream stays, so that nothing is claimed meanwhile. It ends when all were scanned.

Scans are callbacks signed as WeChat signs them. The secrets for that come from the environment,
by the names that scanlogin has for them: WECHAT_TOKEN; for encrypted ones WECHAT_ENCODING_AES_KEY
and WECHAT_APP_ID. SWARM_ORIGINAL_ID is the account's name in them, where the server has learned
one. With SWARM_USERNAME and SWARM_PASSWORD, people who are asked to bind are tied to that account,
so that their next scan is a success; without, bind-required is the end of their login. The server
needs RATE_LIMITS=off, for it sees one address.

Objectives are NAME<LIMIT (or <=, >, >=). Latencies: qr (a login's arrival to its code), ramp (the
same for the streams that are held), callback, push (scan to event), after_answer (callback's answer
to event), complete, bind, resume (return to event); with .p50, .p99.9, .max and so on, of .service
too: push.service.p99<5ms. Counts: those of the summary, errors<0.1% (of requests), lost<1 (scans
that were acknowledged and whose event never came), late<5% (steps begun over 10 ms late; late<1%
is always an objective, since beyond that the figures are not the server's).

Exit: 0, all objectives met; 1, one missed, or the run failed; 2, bad usage; 130, interrupted.

`

// program is what the command gets from outside.
type program struct {
	lookup         func(string) (string, bool) // the environment
	stdin          io.Reader                   // of a child: ends when it has to stop
	stdout, stderr io.Writer
}

var (
	errUsage       = errors.New("see swarm -help")
	errMissed      = errors.New("an objective was missed")
	errInterrupted = errors.New("interrupted")
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once
	p := program{os.LookupEnv, os.Stdin, os.Stdout, os.Stderr}
	code := p.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func (p program) main(ctx context.Context, args []string) int {
	err := p.run(ctx, args)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errInterrupted):
		return 130
	}
	fmt.Fprintf(p.stderr, "swarm: %v\n", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

func (p program) run(ctx context.Context, args []string) error {
	plan, err := p.parse(args)
	if err != nil {
		return err
	}
	if plan.targets, err = findTargets(ctx, plan.URLs, plan.beyond); err != nil {
		return err
	}
	if which, ok := p.lookup(childVariable); ok {
		return p.child(ctx, plan, which)
	}
	if err := plan.fits(); err != nil {
		return err
	}
	final, err := p.watch(ctx, plan, args)
	if err != nil {
		return err
	}
	r := newReport(plan, final, ctx.Err() != nil)
	if err := errors.Join(r.print(p.stdout), r.save(plan.json)); err != nil {
		return err
	}
	switch {
	case r.Interrupted:
		return errInterrupted
	case !r.Passed:
		return errMissed
	}
	return nil
}
