package web

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"time"

	"scanlogin/internal/account"
)

// page is what every page gets.
type page struct {
	T    Texts
	Lang string
	Site string
}

type loginPage struct {
	page
	Next, Username, Error string
	Mistyped              bool // that is the error
	Signup                bool
	Embedded              bool // on another site's page: without a password form beside it
}

type userPage struct {
	page
	Username      string
	Identities    []account.Identity
	SignedInAt    time.Time
	OwnPassword   bool // there is one that can be changed here
	PasswordError string
	Notices       []shownNotice
}

type sessionsPage struct {
	page
	Sessions []listedSession
}

type errorPage struct {
	page
	Status  int
	Message string
}

// pages are the templates by name, each with its layout.
type pages map[string]*template.Template

func parsePages(files fs.FS, a assets) (pages, error) {
	parsed := pages{}
	for _, name := range []string{"login.html", "user.html", "sessions.html", "error.html"} {
		t, err := template.New("layout.html").Funcs(template.FuncMap{"asset": a.url}).
			ParseFS(files, "templates/layout.html", "templates/panel.html", "templates/"+name)
		if err != nil {
			return nil, err
		}
		parsed[name] = t
	}
	return parsed, nil
}

// setPage fills in what every page gets.
func (p *page) setPage(s *Server, r *http.Request) {
	p.Lang = Language(r.Header.Get("Accept-Language"))
	p.T = TextsIn(p.Lang)
	p.Site = s.site()
}

// render writes a page whole or not at all.
func render[P any, PP interface {
	*P
	setPage(s *Server, r *http.Request)
}](s *Server, w http.ResponseWriter, r *http.Request, status int, name string, data P) error {
	PP(&data).setPage(s, r)
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, &data); err != nil {
		return fmt.Errorf("rendering %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", Language(r.Header.Get("Accept-Language")))
	w.Header().Add("Vary", "Accept-Language")
	w.WriteHeader(status)
	_, err := b.WriteTo(w)
	return err
}

func textsFor(r *http.Request) Texts { return TextsIn(Language(r.Header.Get("Accept-Language"))) }
