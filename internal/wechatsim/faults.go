package wechatsim

import (
	"maps"
	"math/rand/v2"
	"time"
)

// The API's endpoints, as [Faults] and [Stats] name them.
const (
	EndpointStableToken = "stable_token"
	EndpointToken       = "token"
	EndpointQRCode      = "qrcode/create"
	EndpointCallbackIP  = "getcallbackip"
	EndpointSend        = "message/custom/send"
	AnyEndpoint         = "*" // in Faults.API: every endpoint that has no entry of its own
)

// Always as a number of calls keeps a fault until it is taken back.
const Always = -1

// Faults is the weather. Counts go down as faults happen; zero is fair weather.
type Faults struct {
	API        map[string]APIFault `json:"api,omitempty"`         // by endpoint
	APILatency time.Duration       `json:"api_latency,omitempty"` // before every API answer
	APIJitter  time.Duration       `json:"api_jitter,omitempty"`  // up to so much more, each time by chance

	PushDelay time.Duration `json:"push_delay,omitempty"` // a try of a push arrives up to so much late, each by chance

	DropTries   int `json:"drop_tries,omitempty"`   // the next n tries of pushes never arrive; 3 lose one push
	LoseReplies int `json:"lose_replies,omitempty"` // the next n tries arrive, their answers don't: WeChat tries again
	Duplicates  int `json:"duplicates,omitempty"`   // the next n pushes are delivered twice, at the same time
	LostScenes  int `json:"lost_scenes,omitempty"`  // the next n follows by QR code arrive as plain follows
}

// APIFault makes an endpoint answer with an error.
type APIFault struct {
	Code  int `json:"code"`  // errcode, like 40001, 40164, 45009, 45011, -1
	Calls int `json:"calls"` // for the next n calls, or Always
}

// SetFaults replaces the faults in force.
func (s *Server) SetFaults(f Faults) {
	f.API = maps.Clone(f.API)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
	s.version++
}

// Faults returns what is left of the faults in force.
func (s *Server) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.currentFaults()
}

// editFaults changes the faults in force, or leaves them where edit fails.
func (s *Server) editFaults(edit func(*Faults) error) (Faults, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.currentFaults()
	if err := edit(&f); err != nil {
		return Faults{}, err
	}
	s.faults = f
	s.version++
	return s.currentFaults(), nil
}

// currentFaults wants the server's lock.
func (s *Server) currentFaults() Faults {
	f := s.faults
	f.API = maps.Clone(f.API)
	return f
}

// apiFault returns the error code that a call of endpoint is to get, 0 for none,
// and how long the call takes.
func (s *Server) apiFault(endpoint string) (code int, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	latency = s.faults.APILatency
	if jitter := s.faults.APIJitter; jitter > 0 {
		latency += rand.N(jitter)
	}
	key := endpoint
	if _, ok := s.faults.API[key]; !ok {
		key = AnyEndpoint
	}
	f := s.faults.API[key]
	if f.Calls == 0 {
		return 0, latency
	}
	if f.Calls > 0 {
		f.Calls--
	}
	if f.Calls == 0 {
		delete(s.faults.API, key)
	} else {
		s.faults.API[key] = f
	}
	return f.Code, latency
}

// spend takes one from the count of a push fault and reports whether there was one.
func (s *Server) spend(count func(*Faults) *int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := count(&s.faults)
	if *n == 0 {
		return false
	}
	if *n > 0 {
		*n--
	}
	s.version++
	return true
}

// pushDelay is how late the next try of a push arrives.
func (s *Server) pushDelay() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.PushDelay <= 0 {
		return 0
	}
	return rand.N(s.faults.PushDelay)
}

func (s *Server) dropTry() bool   { return s.spend(func(f *Faults) *int { return &f.DropTries }) }
func (s *Server) loseReply() bool { return s.spend(func(f *Faults) *int { return &f.LoseReplies }) }
func (s *Server) duplicate() bool { return s.spend(func(f *Faults) *int { return &f.Duplicates }) }
func (s *Server) loseScene() bool { return s.spend(func(f *Faults) *int { return &f.LostScenes }) }

// ExpireTokens ends every access token now, as if its time were over: calls with it get 42001.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.stable.expire(now)
	s.ordinary.expire(now)
	s.version++
}

// RevokeTokens invalidates every access token, as a reset AppSecret or somebody
// else's refresh does: calls with it get 40001.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stable.revoke()
	s.ordinary.revoke()
	s.version++
}
