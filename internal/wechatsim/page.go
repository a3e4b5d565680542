package wechatsim

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"html/template"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// pageView is what page.html shows.
type pageView struct {
	T       texts
	State   state
	Now     time.Time
	People  []personView
	Codes   []codeView
	Person  *personView // who holds the phone
	Code    *codeView   // what it looks at
	Gone    bool        // the code that was asked for is long over
	Weather []string    // the faults in force, in words
}

type personView struct {
	User
	Initial  string
	Hue      uint32
	Selected bool
	Messages []Message
}

type codeView struct {
	codeState
	Path     string
	Selected bool
	Expired  bool
}

func parsePages() (*template.Template, error) {
	t, err := template.New("page.html").Funcs(template.FuncMap{"links": linker()}).ParseFS(files, "page.html")
	if err != nil {
		return nil, fmt.Errorf("parse the page: %w", err)
	}
	return t, nil
}

// phonePage is GET / and GET /q/{code}: the phone, in the hands of ?user=, looking
// at the code of the path or of ?code=, else at the newest one. A real phone comes
// by /q/ and looks at that code or at none.
func (s *Server) phonePage(w http.ResponseWriter, r *http.Request) {
	st, path, query := s.state(), r.PathValue("code"), r.URL.Query()
	gone := path != "" && !s.lookAt(&st, path)
	if path == "" {
		path = query.Get("code")
	}
	view := newPageView(st, textsFor(r.Header.Get("Accept-Language")), query.Get("user"), path, gone)
	var page bytes.Buffer
	if err := s.pages.Execute(&page, view); err != nil {
		s.log.ErrorContext(r.Context(), "render the phone page", "error", err)
		http.Error(w, "the page could not be rendered", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Language")
	h.Set("Content-Language", view.T.Lang)
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(page.Bytes()) // only a caller that hung up makes this fail
}

// lookAt adds the code of path to those that st shows, if it is not among them. It
// reports false when there is none.
func (s *Server) lookAt(st *state, path string) bool {
	if slices.ContainsFunc(st.Codes, func(c codeState) bool { return pathOf(c.URL) == path }) {
		return true
	}
	code, err := s.codeByURL(path)
	if err == nil {
		st.Codes = append(st.Codes, s.codeState(code, time.Now()))
	}
	return err == nil
}

func newPageView(st state, t texts, openid, path string, gone bool) pageView {
	v := pageView{T: t, State: st, Now: time.Now(), Gone: gone, Weather: weather(st.Faults, t)}
	for _, u := range st.Users {
		v.People = append(v.People, newPersonView(u))
	}
	for _, c := range st.Codes {
		v.Codes = append(v.Codes, codeView{codeState: c, Path: pathOf(c.URL), Expired: c.ExpiresIn == 0})
	}
	if i := max(0, slices.IndexFunc(v.People, func(p personView) bool { return p.OpenID == openid })); i < len(v.People) {
		v.Person = &v.People[i]
		v.Person.Selected = true
	}
	if i := chooseCode(v.Codes, path); i >= 0 && !gone {
		v.Code = &v.Codes[i]
		v.Code.Selected = true
	}
	return v
}

// chooseCode returns the index of the code that was asked for, else of the newest
// that is open, else -1.
func chooseCode(codes []codeView, path string) int {
	if i := slices.IndexFunc(codes, func(c codeView) bool { return c.Path == path }); i >= 0 {
		return i
	}
	return slices.IndexFunc(codes, func(c codeView) bool { return !c.Expired })
}

func newPersonView(u userState) personView {
	first, _ := utf8.DecodeRuneInString(u.Name)
	h := fnv.New32a()
	_, _ = h.Write([]byte(u.OpenID)) // a hash takes everything
	return personView{User: u.User, Initial: strings.ToUpper(string(first)), Hue: h.Sum32() % 8, Messages: u.Messages}
}

// weather tells the faults in force in words.
func weather(f Faults, t texts) []string {
	var out []string
	add := func(name string, n int) {
		switch {
		case n > 0:
			out = append(out, name+": "+strconv.Itoa(n))
		case n < 0:
			out = append(out, name+": "+t.Forever)
		}
	}
	add(t.DropTries, f.DropTries)
	add(t.LoseReplies, f.LoseReplies)
	add(t.Duplicates, f.Duplicates)
	add(t.NoScenes, f.LostScenes)
	if f.APILatency > 0 {
		out = append(out, t.Latency+": "+f.APILatency.String())
	}
	for _, endpoint := range []string{AnyEndpoint, EndpointStableToken, EndpointToken, EndpointQRCode, EndpointCallbackIP, EndpointSend} {
		fault, ok := f.API[endpoint]
		if !ok {
			continue
		}
		if endpoint == AnyEndpoint {
			endpoint = t.Every
		}
		add(fmt.Sprintf("%d, %s", fault.Code, endpoint), fault.Calls)
	}
	return out
}

// linker returns a function that makes a reply's text HTML: an <a href> of the
// reply, which WeChat shows as a link, and every bare address; all else is text.
func linker() func(string) template.HTML {
	pattern := regexp.MustCompile(`<a href="(https?://[^"\s<>]+)"[^>]*>([^<]*)</a>|https?://[^\s<>"，。]+`)
	return func(text string) template.HTML {
		var out strings.Builder
		rest := 0
		for _, m := range pattern.FindAllStringSubmatchIndex(text, -1) {
			out.WriteString(template.HTMLEscapeString(text[rest:m[0]]))
			address, label := text[m[0]:m[1]], text[m[0]:m[1]]
			if m[2] >= 0 {
				address, label = text[m[2]:m[3]], text[m[4]:m[5]]
			}
			fmt.Fprintf(&out, `<a href="%s" rel="noreferrer" target="_blank">%s</a>`,
				template.HTMLEscapeString(address), template.HTMLEscapeString(label))
			rest = m[1]
		}
		out.WriteString(template.HTMLEscapeString(text[rest:]))
		return template.HTML(out.String()) // every piece is escaped above
	}
}

// ErrorCodes are those worth trying, for the page's menu.
func (pageView) ErrorCodes() []int {
	return []int{
		codeBusy, codeTokenInvalid, codeAppID, codeTokenMalformed, codeAppSecret, codeAddress,
		codeTokenExpired, codeDailyQuota, codeMinuteQuota, codeOutOfTime, codeOutOfCount, codeUnauthorized, codeBanned,
	}
}

// Calls is how often the API was called.
func (v pageView) Calls() int {
	sum := 0
	for _, n := range v.State.Stats.Calls {
		sum += n
	}
	return sum
}
