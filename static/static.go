// Package static holds what a browser is sent as it is: the page templates, the
// style, the scripts and the icon. There is no build step.
//
// A page is two templates: templates/layout.html and one of login.html,
// user.html, sessions.html and error.html beside it. Parse the pair together and execute
// "layout.html". The templates call one function, asset, which takes the name
// of a file of this package and returns the address that it is served at.
// They hold no words for people: those come in as .T. The operator's page, status.html, is
// on its own and in English.
package static

import "embed"

// Files is every asset, and the page templates below templates/.
//
//go:embed favicon.svg login.js scanlogin.css status.css status.js user.js templates/*.html
var Files embed.FS
