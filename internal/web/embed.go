package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	texttemplate "text/template"
)

// What pages of other origins may do: embed the panel of a login, <scan-login>, where
// ALLOWED_ORIGINS names them. docs/embed.md is for who writes such pages.

// reach is how far such a page gets.
type reach int

const (
	reachNothing reach = iota
	reachCode          // what anybody may read, so without cookies
	reachLogin         // with this browser's cookies, which browsers send within a site only (SameSite=Lax)
)

// reachable is all that the element asks for. Whatever else changes something is refused.
func reachable(method, path string) reach {
	switch method + " " + path {
	case "GET /embed.js":
		return reachCode
	case "GET /login/events", "POST /login/confirm", "POST /login/complete", "POST /user/bind", "POST /user/signup":
		return reachLogin
	}
	if method == http.MethodGet && strings.HasPrefix(path, "/static/") {
		return reachCode
	}
	return reachNothing
}

func (s *Server) allows(origin string) bool { return slices.Contains(s.AllowedOrigins, origin) }

// embeds tells whether the request is one of <scan-login> on a page that may embed it. It
// believes the browser on whether that page is of our site: there, nobody else's word counts.
func (s *Server) embeds(r *http.Request) bool {
	return reachable(r.Method, r.URL.Path) == reachLogin &&
		s.allows(r.Header.Get("Origin")) && r.Header.Get("Sec-Fetch-Site") == "same-site"
}

// shareWith lets the page that sent the request read the answer, where it may (CORS).
func (s *Server) shareWith(w http.ResponseWriter, r *http.Request) {
	how := reachable(r.Method, r.URL.Path)
	if how == reachNothing {
		return
	}
	h, origin := w.Header(), r.Header.Get("Origin")
	h.Add("Vary", "Origin")
	switch {
	case s.embeds(r):
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	case how == reachCode && s.allows(origin):
		h.Set("Access-Control-Allow-Origin", origin)
	}
}

// preflight answers a browser that asks whether such a page may send JSON. It has to ask
// again after two hours.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) error {
	h, origin := w.Header(), r.Header.Get("Origin")
	h.Add("Vary", "Origin")
	if s.allows(origin) && reachable(r.Header.Get("Access-Control-Request-Method"), r.URL.Path) == reachLogin {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Allow-Methods", http.MethodPost)
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		h.Set("Access-Control-Max-Age", "7200")
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// embeds are the two scripts of /embed.js.
type embeds struct {
	panel asset // the panel itself, for pages of our site
	link  asset // to our page, for those to which our cookies don't get
}

// embed sends the element in the form that works where it is asked for. Browsers say so
// where they are spoken to by https; to others the link works everywhere.
func (s *Server) embed(w http.ResponseWriter, r *http.Request) error {
	w.Header().Add("Vary", "Sec-Fetch-Site")
	script := s.embedded.link
	if site := r.Header.Get("Sec-Fetch-Site"); site == "same-site" || site == "same-origin" {
		script = s.embedded.panel
	}
	return script.send(w, r, keepShortly)
}

// keepShortly keeps /embed.js, whose address doesn't change, while somebody looks around.
const keepShortly = "public, max-age=300"

func (s *Server) buildEmbeds(files fs.FS) (e embeds, err error) {
	if e.panel, err = s.buildEmbed(files, "panel"); err != nil {
		return embeds{}, err
	}
	e.link, err = s.buildEmbed(files, "elsewhere")
	return e, err
}

// buildEmbed is /embed.js with the HTML of that template in both languages.
func (s *Server) buildEmbed(files fs.FS, html string) (asset, error) {
	script, err := texttemplate.New("embed.js").Funcs(texttemplate.FuncMap{"asset": s.assets.url, "json": toJSON}).
		ParseFS(files, "templates/embed.js")
	if err != nil {
		return asset{}, err
	}
	panels := map[string]string{}
	for _, lang := range []string{langChinese, langEnglish} {
		var b strings.Builder
		p := loginPage{page: page{T: TextsIn(lang), Lang: lang, Site: s.site()}, Embedded: true}
		if err := s.pages["login.html"].ExecuteTemplate(&b, html, p); err != nil {
			return asset{}, err
		}
		panels[lang] = b.String()
	}
	var b bytes.Buffer
	err = script.Execute(&b, struct {
		Origin, Style string
		Direct        bool
		Panels        map[string]string
	}{s.origin(), inPixels(string(s.assets.files["scanlogin.css"].content)), html == "panel", panels})
	if err != nil {
		return asset{}, err
	}
	return newAsset("embed.js", b.Bytes()), nil
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// inPixels is a style whose lengths don't depend on the page around it, which may have
// made a rem anything: 62.5% and 100 px are common.
func inPixels(style string) string {
	return regexp.MustCompile(`\d*\.?\d+rem\b`).ReplaceAllStringFunc(style, func(length string) string {
		rem, err := strconv.ParseFloat(strings.TrimSuffix(length, "rem"), 64)
		if err != nil {
			panic(fmt.Sprintf("%s: %v", length, err)) // the pattern admits numbers only
		}
		return strconv.FormatFloat(rem*16, 'f', -1, 64) + "px"
	})
}
