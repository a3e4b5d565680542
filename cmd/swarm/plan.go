package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"time"

	"scanlogin/internal/wechat"
)

// plan is what a run does. What is exported is part of the report.
type plan struct {
	URLs      []string `json:"urls"`
	Streams   int      `json:"streams"`
	Ramp      float64  `json:"ramp"`   // streams opened a second
	Logins    float64  `json:"logins"` // a second
	Scans     float64  `json:"scans"`  // of held streams' codes, a second
	Churn     float64  `json:"churn"`  // connections lost a second
	People    int      `json:"people"`
	Processes int      `json:"processes"`
	For       seconds  `json:"for_seconds"`
	Think     seconds  `json:"think_seconds"` // mean, from the code to the scan
	Grace     seconds  `json:"grace_seconds"`

	targets    []target
	beyond     bool
	objectives []objective
	json       string
	wechat     account
	username   string // of the account that people are bound to; empty: nobody is
	password   string
	source     string // the address to connect from; empty: the kernel's choice
}

// account is the Official Account that callbacks are sent in the name of.
type account struct {
	token      string
	cipher     *wechat.Cipher // nil: plain
	originalID string
}

// seconds is a duration that JSON shows as seconds.
type seconds time.Duration

func (s seconds) MarshalJSON() ([]byte, error) { //nolint:unparam // the interface wants an error
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

func usagef(format string, args ...any) error {
	return fmt.Errorf(format+"; %w", append(args, errUsage)...)
}

// parse reads a command line. All its errors are errUsage, or flag.ErrHelp.
func (p program) parse(args []string) (plan, error) {
	plan := plan{For: seconds(time.Minute), Think: seconds(time.Second), Grace: seconds(10 * time.Second), Ramp: 500}
	f := flag.NewFlagSet("swarm", flag.ContinueOnError)
	f.SetOutput(io.Discard) // what was wrong is told once, by main
	f.Func("url", "base `URL` of an instance or a balancer; may be repeated, or a list with commas", func(s string) error {
		plan.URLs = append(plan.URLs, strings.Split(s, ",")...)
		return nil
	})
	f.IntVar(&plan.Streams, "streams", 0, "idle event streams to hold")
	rate(f, &plan.Ramp, "ramp", "how fast they are opened, a second (500 or 500/s)")
	rate(f, &plan.Logins, "logins", "logins begun a second, at random moments (Poisson)")
	rate(f, &plan.Scans, "scans", "of the held streams, how many are scanned a second, at random moments (Poisson), each once")
	rate(f, &plan.Churn, "churn", "of the held streams, how many lose their connection a second and come back")
	f.IntVar(&plan.People, "people", 1000, "how many people there are to scan")
	f.DurationVar((*time.Duration)(&plan.For), "for", time.Duration(plan.For), "how long, once the streams are held")
	f.DurationVar((*time.Duration)(&plan.Think), "think", time.Duration(plan.Think), "mean time from a code to its scan (exponential)")
	f.DurationVar((*time.Duration)(&plan.Grace), "grace", time.Duration(plan.Grace), "how long what is under way at the end may take")
	f.IntVar(&plan.Processes, "processes", 1, "processes to share the load, where open files are limited")
	f.StringVar(&plan.json, "json", "", "`file` to write the summary to for other programs; see type report")
	f.BoolVar(&plan.beyond, "beyond-loopback", false, "allow any address. This sends real load and forged scans to a machine that may not be "+
		"yours: use it only on your own test system")
	f.Func("objective", "`NAME<LIMIT` that the run has to meet, as push.p99<50ms; may be repeated", func(s string) error {
		o, err := parseObjective(s)
		plan.objectives = append(plan.objectives, o)
		return err
	})
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.stdout, about)
		f.SetOutput(p.stdout)
		f.PrintDefaults()
		return plan, err
	case err != nil:
		return plan, usagef("%w", err)
	case f.NArg() > 0:
		return plan, usagef("swarm takes flags only, and %q is none", f.Arg(0))
	}
	plan.objectives = withLate(plan.objectives)
	if err := plan.check(); err != nil {
		return plan, err
	}
	return plan, plan.secrets(p.lookup)
}

// rate is a flag of so many a second.
func rate(f *flag.FlagSet, to *float64, name, meaning string) {
	f.Func(name, meaning, func(s string) error {
		v, err := strconv.ParseFloat(strings.TrimSuffix(s, "/s"), 64)
		if err != nil || !(v >= 0 && v <= 1e6) {
			return fmt.Errorf("%q is no rate, as 50 or 50/s is", s)
		}
		*to = v
		return nil
	})
}

func (p *plan) check() error {
	switch {
	case len(p.URLs) == 0:
		return usagef("no -url, as http://127.0.0.1:8080")
	case p.Streams < 0 || p.People < 1 || p.Processes < 1:
		return usagef("-streams can't be negative, -people and -processes are at least 1")
	case p.Streams == 0 && p.Logins == 0:
		return usagef("nothing to do: neither -streams nor -logins")
	case p.Scans > 0 && p.Streams == 0:
		return usagef("-scans has no -streams to take from")
	case p.Churn > 0 && p.Streams == 0:
		return usagef("-churn has no -streams to take from")
	case p.Streams > 0 && p.Ramp == 0:
		return usagef("a -ramp of 0 opens no streams")
	case p.For <= 0 || p.Think < 0 || p.Grace < 0:
		return usagef("-for has to be more than 0, -think and -grace not negative")
	}
	return nil
}

// secrets come from the environment: a command line is everybody's to see.
func (p *plan) secrets(lookup func(string) (string, bool)) error {
	get := func(name string) string { v, _ := lookup(name); return v }
	p.wechat = account{token: get("WECHAT_TOKEN"), originalID: cmp.Or(get("SWARM_ORIGINAL_ID"), "gh_swarm")}
	p.username, p.password = get("SWARM_USERNAME"), get("SWARM_PASSWORD")
	if p.Logins+p.Scans > 0 && p.wechat.token == "" {
		return usagef("-logins and -scans need WECHAT_TOKEN in the environment, to sign scans with")
	}
	if key := get("WECHAT_ENCODING_AES_KEY"); key != "" {
		var err error
		if p.wechat.cipher, err = wechat.NewCipher(key, get("WECHAT_APP_ID")); err != nil {
			return usagef("WECHAT_ENCODING_AES_KEY and WECHAT_APP_ID: %w", err)
		}
	}
	return nil
}

// share is the part of process k. Several Poisson processes side by side are one.
func (p plan) share(k int) plan {
	n := p.Processes
	p.Streams = p.Streams/n + min(1, max(0, p.Streams%n-k))
	for _, rate := range []*float64{&p.Ramp, &p.Logins, &p.Scans, &p.Churn} {
		*rate /= float64(n)
	}
	return p
}

// fits tells whether the streams find room in the open files of the processes.
func (p plan) fits() error {
	var limit syscall.Rlimit // the hard one: Go has raised the soft one to it
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("reading the limit of open files: %w", err)
	}
	return p.fitsIn(limit.Cur)
}

func (p plan) fitsIn(limit uint64) error {
	need := p.files()
	if need <= limit {
		return nil
	}
	more := p
	for more.Processes < 1000 && more.files() > limit {
		more.Processes++
	}
	return usagef("%d streams and %g logins/s need about %d open files in each of %d process(es), and the limit is %d: try -processes %d",
		p.Streams, p.Logins, need, p.Processes, limit, more.Processes)
}

// files is how many open files a process may need. A login has its stream, and now and
// then a request; the rest is idle connections, pipes and what Go opens for itself.
func (p plan) files() uint64 {
	mine := p.share(0)
	logins := 2 * mine.Logins * (time.Duration(p.Think).Seconds() + 1)
	return uint64(mine.Streams) + uint64(logins) + uint64(2*idleRequests*len(p.URLs)) + 64
}
