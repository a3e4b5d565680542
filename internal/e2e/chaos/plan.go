package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The kinds of faults, as -faults names them.
const (
	faultKill      = "kill"      // an instance dies as in a power cut, and comes back
	faultTerm      = "term"      // an instance is stopped and started again
	faultDeploy    = "deploy"    // so are all, one after the other
	faultBackends  = "backends"  // the database ends connections
	faultStop      = "stop"      // the database stops at once, and comes back
	faultPromote   = "promote"   // the primary dies, the standby takes over
	faultCut       = "cut"       // the network between instances and database
	faultStreams   = "streams"   // every browser's connections break
	faultCallbacks = "callbacks" // WeChat's pushes come twice, late or not, and their answers get lost
)

func faultKinds() []string {
	return []string{
		faultKill, faultTerm, faultDeploy, faultBackends, faultStop,
		faultPromote, faultCut, faultStreams, faultCallbacks,
	}
}

// parseKinds reads all, none, or a list of kinds.
func parseKinds(list string) ([]string, error) {
	switch list {
	case "all":
		return faultKinds(), nil
	case "none":
		return nil, nil
	}
	kinds := strings.Split(list, ",")
	for _, kind := range kinds {
		if !slices.Contains(faultKinds(), kind) {
			return nil, fmt.Errorf("-faults: %q is none of all, none, %s", kind, strings.Join(faultKinds(), ", "))
		}
	}
	return kinds, nil
}

// fault is one entry of a plan.
type fault struct {
	kind   string
	at     time.Duration // since the world began
	length time.Duration
	target int    // an instance; everyone: all of them
	mode   string // of its kind
}

const everyone = -1

func (f fault) String() string {
	s := fmt.Sprintf("%6.1fs %-9s %.1fs", f.at.Seconds(), f.kind, f.length.Seconds())
	if f.target != everyone {
		s += " " + instanceName(f.target)
	}
	if f.mode != "" {
		s += " " + f.mode
	}
	return s
}

const (
	shortestSlot, longestSlot = 2 * time.Second, 9 * time.Second
	roomForTwo                = 6 * time.Second // a slot in which two faults may meet
)

// makePlan deals faults to slots of time between warmUp and the calm at the end, each
// kind in turn. A slot's last part is left calm, so that recovery is seen as well.
func makePlan(seed uint64, kinds []string, warmUp, end time.Duration, instances int) (plan []fault) {
	if len(kinds) == 0 || end <= warmUp {
		return nil
	}
	r := rand.New(rand.NewPCG(seed, 1))
	slot := min(max((end-warmUp)/time.Duration(len(kinds)), shortestSlot), longestSlot)
	slots := int((end - warmUp) / slot)
	promotion := -1
	if slices.Contains(kinds, faultPromote) {
		promotion = slots/3 + r.IntN(max(1, slots/3))
	}
	deck := deck{r: r, kinds: slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return k == faultPromote })}
	for n := range slots {
		first := faultPromote
		if n != promotion {
			first = deck.next()
		}
		start := warmUp + time.Duration(n)*slot
		plan = append(plan, oneFault(r, first, start, slot, instances))
		if slot >= roomForTwo && r.IntN(3) == 0 {
			plan = append(plan, oneFault(r, deck.next(), start, slot, instances))
		}
	}
	plan = slices.DeleteFunc(plan, func(f fault) bool { return f.kind == "" })
	slices.SortStableFunc(plan, func(a, b fault) int { return int(a.at - b.at) })
	return plan
}

// deck deals every kind once before any comes again.
type deck struct {
	r     *rand.Rand
	kinds []string
	left  []string
}

// next is empty where there are no kinds.
func (d *deck) next() string {
	if len(d.kinds) == 0 {
		return ""
	}
	if len(d.left) == 0 {
		d.left = slices.Clone(d.kinds)
		d.r.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	kind := d.left[0]
	d.left = d.left[1:]
	return kind
}

func oneFault(r *rand.Rand, kind string, start, slot time.Duration, instances int) fault {
	f := fault{
		kind:   kind,
		at:     start + rand2(r, 0, slot/3),
		length: rand2(r, min(time.Second, slot/4), slot/2),
		target: everyone,
	}
	switch kind {
	case faultKill, faultTerm:
		f.target = r.IntN(instances)
	case faultBackends:
		f.mode = pick(r, "all", "listen", "pool")
	case faultCut:
		f.mode = pick(r, "hole", "hole and reset", "reset", "slow")
		if r.IntN(2) == 0 {
			f.target = r.IntN(instances)
		}
		if strings.HasPrefix(f.mode, "hole") && slot == longestSlot {
			f.length = rand2(r, 2*time.Second, 12*time.Second)
		}
	case faultCallbacks:
		f.mode = pick(r, "duplicates", "lost replies", "dropped tries", "delays", "all")
	}
	return f
}

func pick(r *rand.Rand, words ...string) string { return words[r.IntN(len(words))] }

func rand2(r *rand.Rand, low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(r.Int64N(int64(high-low)))
}
