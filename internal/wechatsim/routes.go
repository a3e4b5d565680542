package wechatsim

import (
	"embed"
	"net/http"
)

//go:embed assets page.html
var files embed.FS

// Handler serves the API, the phone page and its endpoints. Requests that change
// something are refused with 403 when they come from a page of another origin.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()

	mux.Handle("/cgi-bin/stable_token", s.endpoint(EndpointStableToken, s.apiStableToken))
	mux.Handle("/cgi-bin/token", s.endpoint(EndpointToken, s.apiToken))
	mux.Handle("/cgi-bin/qrcode/create", s.endpoint(EndpointQRCode, s.authorized(s.apiCreateCode)))
	mux.Handle("/cgi-bin/getcallbackip", s.endpoint(EndpointCallbackIP, s.authorized(s.apiCallbackIP)))
	mux.Handle("/cgi-bin/message/custom/send", s.endpoint(EndpointSend, s.authorized(s.apiSend)))
	mux.Handle("/cgi-bin/", s.endpoint("unknown", func(*http.Request) (any, error) { return nil, apiError(codeURL) }))
	mux.HandleFunc("GET /cgi-bin/showqrcode", s.showCode)

	mux.HandleFunc("GET /{$}", s.phonePage)
	mux.HandleFunc("GET /q/{code}", s.phonePage)
	mux.Handle("GET /assets/", assetHeaders(http.FileServerFS(files)))

	mux.HandleFunc("GET /sim/state", s.simState)
	mux.HandleFunc("GET /sim/version", s.simVersion)
	mux.Handle("POST /sim/users", s.action(s.simAddUser))
	mux.Handle("POST /sim/scan", s.action(s.simScan))
	mux.Handle("POST /sim/follow", s.action(s.simFollow))
	mux.Handle("POST /sim/unsubscribe", s.action(s.simUnsubscribe))
	mux.Handle("POST /sim/say", s.action(s.simSay))
	mux.Handle("POST /sim/verify", s.action(s.simVerify))
	mux.Handle("POST /sim/faults", s.action(s.simFaults))

	return http.NewCrossOriginProtection().Handler(mux)
}

func assetHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}
