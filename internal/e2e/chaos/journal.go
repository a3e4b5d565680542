package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// What a line of the journal tells.
const (
	kindRun       = "run"        // the first: with which seed and times
	kindOpen      = "open"       // a tab asks for its event stream
	kindQR        = "qr"         // a tab was given a code
	kindEvent     = "event"      // a tab was given any other event
	kindLost      = "lost"       // a tab's stream broke, or could not be had
	kindAnswer    = "answer"     // a tab's stream was answered with a status that isn't 200
	kindLeave     = "leave"      // somebody closes the browser
	kindBack      = "back"       // and opens it again, with its cookies
	kindScanStart = "scan-start" // a phone scans
	kindScan      = "scan"       // what became of that
	kindComplete  = "complete"   // the answer to POST /login/complete
	kindBind      = "bind"       // the answer to POST /user/bind
	kindSession   = "session"    // whom a browser is logged in as
	kindDone      = "done"       // nobody looks at this browser any more
	kindFault     = "fault"      // something is broken on purpose, and whole again
	kindExit      = "exit"       // an instance has ended
	kindEnd       = "end"        // the last: everybody was waited for
)

// entry is one line of the journal: what somebody saw, and no opinion about it.
type entry struct {
	At   int64  `json:"at"` // µs since the world began, as all times here
	Kind string `json:"kind"`

	Browser int    `json:"browser,omitempty"` // one person's visit; its tabs share the cookies
	Tab     int    `json:"tab,omitempty"`
	Ticket  string `json:"ticket,omitempty"` // of the code that the browser shows; names the login
	Scene   int    `json:"scene,omitempty"`
	// ExpiresIn is in seconds, rounded up by the server.
	ExpiresIn int `json:"expires_in,omitempty"`
	// Asked is when the request was sent whose answer this is; what is told held at some
	// moment between then and At.
	Asked int64  `json:"asked,omitempty"`
	Name  string `json:"name,omitempty"` // of an event, a fault, an instance

	Scan         int    `json:"scan,omitempty"` // numbers pushes
	Person       string `json:"person,omitempty"`
	Acknowledged bool   `json:"acknowledged,omitempty"` // WeChat got its 200, and the phone shows the reply
	Reply        string `json:"reply,omitempty"`        // logged_in, must_bind, used, expired
	Statuses     []int  `json:"statuses,omitempty"`     // of each try; 0: no answer

	Status int    `json:"status,omitempty"` // 0: no answer
	From   string `json:"from,omitempty"`   // the instance that answered; empty: the balancer, or nobody
	Set    bool   `json:"set,omitempty"`    // the answer sets a session
	User   string `json:"user,omitempty"`

	Fault  int    `json:"fault,omitempty"` // numbers faults
	Phase  string `json:"phase,omitempty"` // start, end
	Detail string `json:"detail,omitempty"`
	Code   int    `json:"code,omitempty"`
	Took   int64  `json:"took,omitempty"` // from the signal to the exit

	Seed    uint64  `json:"seed,omitempty"`
	Timing  *timing `json:"timing,omitempty"`
	Planned int     `json:"planned,omitempty"` // faults
}

// timing is what the instances were told, and what they promise.
type timing struct {
	TTL     time.Duration `json:"ttl"`
	Grace   time.Duration `json:"grace"`
	Rest    time.Duration `json:"rest"`
	BindTTL time.Duration `json:"bind_ttl"`
	Exit    time.Duration `json:"exit"` // after SIGTERM
}

// journal collects entries in the order of their time.
type journal struct {
	start time.Time

	mu      sync.Mutex
	entries []entry
}

func newJournal() *journal { return &journal{start: time.Now()} }

// now is the time since the world began, in µs.
func (j *journal) now() int64 { return time.Since(j.start).Microseconds() }

// add writes e down with the present time, which it returns.
func (j *journal) add(e entry) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.At = j.now()
	j.entries = append(j.entries, e)
	return e.At
}

// all is what was written so far.
func (j *journal) all() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entries[:len(j.entries):len(j.entries)]
}

func writeJournal(w io.Writer, entries []entry) error {
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	for _, e := range entries {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	return out.Flush()
}

func readJournal(r io.Reader) (entries []entry, err error) {
	lines := json.NewDecoder(r)
	for {
		var e entry
		err := lines.Decode(&e)
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading line %d of the journal: %w", len(entries)+1, err)
		}
		entries = append(entries, e)
	}
}
