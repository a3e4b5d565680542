package wechatsim

import "maps"

// Stats counts what has happened since the server was made.
type Stats struct {
	Calls      map[string]int `json:"calls"`       // API calls by endpoint
	CallErrors map[string]int `json:"call_errors"` // those answered with an errcode
	Codes      int            `json:"codes"`       // QR codes created
	CodesToday int            `json:"codes_today"` // of the day's quota
	Pushes     int            `json:"pushes"`      // events and messages, a duplicate counts again
	Tries      int            `json:"tries"`       // posts for them, dropped ones included
	Replies    int            `json:"replies"`     // text replies that a phone showed
	Messages   int            `json:"messages"`    // texts that the account sent by itself
	Failures   int            `json:"failures"`    // pushes that ended in the failure notice
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Calls, st.CallErrors = maps.Clone(st.Calls), maps.Clone(st.CallErrors)
	st.CodesToday = s.codes.today(today())
	return st
}

func (s *Server) countCall(endpoint string, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stats.Calls == nil {
		s.stats.Calls, s.stats.CallErrors = map[string]int{}, map[string]int{}
	}
	s.stats.Calls[endpoint]++
	if failed {
		s.stats.CallErrors[endpoint]++
	}
	s.version++
}
