// Package static holds what a browser is sent as it is: the page templates, the
// style, the scripts and the icon. There is no build step.
//
// A page is three templates: templates/layout.html, panel.html, and one of login.html,
// user.html, sessions.html and error.html beside them. Parse the three together and execute
// "layout.html". panel.html holds the panel of a login alone, too, as other people's pages
// embed it: embed.js brings it there. The templates call one function, asset, which takes
// the name of a file of this package and returns the address that it is served at; scripts
// import each other by names beside their own. The templates hold no words for people:
// those come in as .T. The operator's page, status.html, is on its own and in English.
package static

import "embed"

// Files is every asset, and the page templates below templates/.
//
//go:embed favicon.svg login.js panel.js scanlogin.css status.css status.js user.js templates
var Files embed.FS
