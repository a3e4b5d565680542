package wechatsim

import (
	"net/http"
	"net/url"
	"time"
)

// state is what /sim/state tells.
type state struct {
	Version uint64       `json:"version"`
	Account accountState `json:"account"`
	Users   []userState  `json:"users"`
	Codes   []codeState  `json:"codes"` // newest first, those that expired a moment ago too
	Faults  Faults       `json:"faults"`
	Stats   Stats        `json:"stats"`
}

type accountState struct {
	Name       string   `json:"name"`
	AppID      string   `json:"app_id"`
	OriginalID string   `json:"original_id"`
	Mode       Mode     `json:"mode"`
	Callbacks  []string `json:"callbacks"`
}

type userState struct {
	User
	Messages []Message `json:"messages"`
}

type codeState struct {
	Ticket    string    `json:"ticket"`
	Scene     string    `json:"scene"`
	Site      string    `json:"site"` // the host of the first callback
	URL       string    `json:"url"`
	ExpiresIn int       `json:"expires_in"` // seconds, 0 for an expired code
	ExpiresAt time.Time `json:"expires_at"`
	Scans     int       `json:"scans"`
}

// simState is GET /sim/state: the newest 50 codes and the newest 200 users.
func (s *Server) simState(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.state())
}

// simVersion is GET /sim/version: a number that changes with the state, cheap to poll.
func (s *Server) simVersion(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	v := s.version
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]uint64{"version": v})
}

func (s *Server) state() state {
	st := state{Account: s.account(), Stats: s.Stats()}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Version = s.version
	st.Faults = s.currentFaults()
	st.Users = s.userStates()
	st.Codes = []codeState{}
	for _, c := range s.codes.newest(shownCodes, open(now.Add(-recentlyEnd))) {
		st.Codes = append(st.Codes, s.codeState(c, now))
	}
	return st
}

func (s *Server) account() accountState {
	a := accountState{Name: s.cfg.Name, AppID: s.cfg.AppID, OriginalID: s.originalID, Mode: s.cfg.Mode}
	for _, raw := range s.cfg.CallbackURLs {
		a.Callbacks = append(a.Callbacks, hostOf(raw))
	}
	return a
}

// hostOf keeps a callback's path and query to itself: owners put secrets there.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// userStates wants the server's lock.
func (s *Server) userStates() []userState {
	newest := s.users.order[max(0, len(s.users.order)-shownUsers):]
	out := make([]userState, len(newest))
	for i, p := range newest {
		out[i] = userState{p.User, append([]Message{}, p.messages...)}
	}
	return out
}

func (s *Server) codeState(c Code, now time.Time) codeState {
	st := codeState{
		Ticket: c.Ticket, Scene: c.scene(), URL: c.URL, Scans: c.Scans, ExpiresAt: c.ExpiresAt,
		ExpiresIn: secondsLeft(c, now),
	}
	if len(s.cfg.CallbackURLs) > 0 {
		st.Site = hostOf(s.cfg.CallbackURLs[0])
	}
	return st
}

// secondsLeft is rounded up: 0 means expired.
func secondsLeft(c Code, now time.Time) int {
	return int((max(0, c.ExpiresAt.Sub(now)) + time.Second - 1) / time.Second)
}
