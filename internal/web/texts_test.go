package web

import (
	"html/template"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"scanlogin/internal/login"
	"scanlogin/static"
)

func TestLanguage(t *testing.T) {
	for _, tt := range []struct{ header, want string }{
		{"", "en"},
		{"zh", "zh-CN"},
		{"zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"},
		{"zh-Hant-TW", "zh-CN"},
		{"ZH-hk", "zh-CN"},
		{"en-US,en;q=0.9", "en"},
		{"en-US,en;q=0.9,zh-CN;q=0.8", "en"},
		{"en;q=0.8,zh;q=0.9", "zh-CN"},
		{"en ; q=0.5 , zh ; Q=0.7", "zh-CN"},
		{"en,zh", "zh-CN"},
		{"fr-FR,fr;q=0.9", "en"},
		{"fr,zh;q=0.1", "zh-CN"},
		{"zh;q=0,en;q=0", "en"},
		{"zh;q=0", "en"},
		{"*", "en"},
		{"zho", "en"},
		{"zh;q=NaN,en;q=0.1", "en"},
		{"zh;q=2", "en"},
		{"zh;q=-1", "en"},
		{"zh;q=,en", "en"},
		{"zh;level=1", "en"},
		{"zh;", "zh-CN"},
		{",;,;q=;==,-,", "en"},
		{strings.Repeat("zh;", 1000), "en"},
	} {
		if got := Language(tt.header); got != tt.want {
			t.Errorf("Language(%.40q) = %s, want %s", tt.header, got, tt.want)
		}
	}
}

func FuzzLanguage(f *testing.F) {
	f.Add("zh-CN,zh;q=0.9,en;q=0.8")
	f.Add(";q=,-*")
	f.Fuzz(func(t *testing.T, header string) {
		if got := Language(header); got != langChinese && got != langEnglish {
			t.Errorf("Language(%q) = %q", header, got)
		}
	})
}

func TestTextsComplete(t *testing.T) {
	for _, lang := range []string{langChinese, langEnglish} {
		texts := reflect.ValueOf(TextsIn(lang))
		for field, value := range texts.Fields() {
			if field.Type.Kind() == reflect.String && value.String() == "" {
				t.Errorf("%s: no text %s", lang, field.Name)
			}
		}
	}
}

func TestTextsAreInTheirLanguage(t *testing.T) {
	for field, value := range reflect.ValueOf(english()).Fields() {
		if field.Type.Kind() == reflect.String && hasHan(value.String()) {
			t.Errorf("English text %s has Chinese in it: %s", field.Name, value)
		}
	}
	for code, text := range chinese().errors {
		if !hasHan(text) {
			t.Errorf("Chinese text for %s has no Chinese in it: %s", code, text)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	zh, en := chinese(), english()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(en.errors)), slices.Sorted(maps.Keys(zh.errors))); diff != "" {
		t.Errorf("codes with an English (-) and with a Chinese (+) text differ:\n%s", diff)
	}
	if got, want := en.Error("never heard of"), en.Error("internal"); got != want || got == "" {
		t.Errorf("text of an unknown code = %q, want %q", got, want)
	}
}

// WeChat cuts a text message at 2,048 bytes.
func TestPhoneTexts(t *testing.T) {
	server := &Server{Config: Config{PublicURL: &url.URL{Host: strings.Repeat("a", 253)}}, Replies: builtinReplies()} // the longest host name
	for name := range server.Replies {
		text := server.say(name, 1_700_000_000, login.Question{
			Code: "123456", Origin: login.Origin{Place: strings.Repeat("Ω", maxPlace), Browser: browserWords("SamsungBrowser HarmonyOS")},
		})
		zh, en, two := strings.Cut(text, "\n")
		if !two || !hasHan(zh) || hasHan(en) || strings.Contains(en, "\n") {
			t.Errorf("%s is not a Chinese line and an English one: %q", name, text)
		}
		if len(text) > 2048 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
		if strings.ContainsAny(text, "{}") {
			t.Errorf("%s has a field left: %q", name, text)
		}
	}
	// Not the time of the answer: WeChat's retry has to get the same one.
	if text := server.say(ReplyLoggedIn, 1_700_000_000, login.Question{}); !strings.Contains(text, "at 06:13.") {
		t.Errorf("a push of 06:13 in Shanghai is answered with %q", text)
	}
}

// Who is asked is told which site, which browser, where and when, as far as that is known.
func TestAQuestionSaysWhatItIsAbout(t *testing.T) {
	server := &Server{Config: Config{PublicURL: &url.URL{Host: "login.example.com"}}, Replies: builtinReplies()}
	both := login.Origin{Place: "Kunming", Browser: "Firefox, Linux"}
	for _, tt := range []struct {
		reply  Reply
		origin login.Origin
		want   []string
	}{
		{ReplyConfirm, both, []string{"login.example.com", "(Firefox, Linux, Kunming)", "06:13", " 0 "}},
		{ReplyConfirm, login.Origin{Place: "Kunming"}, []string{"(Kunming)"}},
		{ReplyConfirm, login.Origin{}, []string{"(?)"}},
		{ReplyConfirmCode, both, []string{"login.example.com", "(Firefox, Linux, Kunming)", "06:13", "123456", " 0 "}},
	} {
		text := server.say(tt.reply, 1_700_000_000, login.Question{Code: "123456", Origin: tt.origin})
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s of %+v lacks %q: %s", tt.reply, tt.origin, want, text)
			}
		}
		if tt.reply == ReplyConfirm && strings.Contains(text, "123456") {
			t.Errorf("%s gives a code away: %s", tt.reply, text)
		}
	}
}

// Executing a template fails where it names a text that isn't there.
func TestTemplatesFindTheirTexts(t *testing.T) {
	type identity struct{ BoundAt time.Time }
	type session struct {
		ID, Browser, System, Place string
		CreatedAt, SeenAt          time.Time
		Current                    bool
	}
	type page struct {
		T                                 Texts
		Lang, Site, Next, Username, Error string
		Signup, Mistyped, Embedded        bool
		Identities                        []identity
		SignedInAt                        time.Time
		OwnPassword                       bool
		PasswordError                     string
		Notices                           []shownNotice
		Sessions                          []session
		Status                            int
		Message                           string
	}
	asset := template.FuncMap{"asset": func(name string) string { return "/static/" + name }}
	for _, name := range []string{"login.html", "user.html", "sessions.html", "error.html"} {
		tmpl, err := template.New("layout.html").Funcs(asset).Option("missingkey=error").
			ParseFS(static.Files, "templates/layout.html", "templates/panel.html", "templates/"+name)
		if err != nil {
			t.Fatal(err)
		}
		for _, lang := range []string{langChinese, langEnglish} {
			bare := page{T: TextsIn(lang), Lang: lang, Site: "example.com"}
			full := bare
			full.Next, full.Username, full.Error, full.Signup, full.Mistyped = "/a?b=c", `"><script>`, "no", true, true
			full.Identities = []identity{{BoundAt: time.Unix(0, 0)}}
			full.OwnPassword, full.PasswordError = true, "no"
			full.Notices = []shownNotice{{ID: 1, Text: "x", From: "Firefox"}, {ID: 2, Text: "y"}}
			full.Sessions = []session{{ID: "1", Browser: "WeChat", Current: true}, {Browser: "Chrome", System: "Windows", Place: "上海"}, {}}
			for _, data := range []page{bare, full} {
				if err := tmpl.Execute(io.Discard, data); err != nil {
					t.Errorf("%s in %s: %v", name, lang, err)
				}
			}
		}
	}
}

// The pages' Content-Security-Policy allows neither inline scripts nor inline styles.
func TestTemplatesHoldNothingInline(t *testing.T) {
	names, err := static.Files.ReadDir("templates")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range names {
		b, err := static.Files.ReadFile("templates/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, inline := range []string{"<style", " style=", " onclick=", " onsubmit=", "javascript:", "<script>"} {
			if strings.Contains(string(b), inline) {
				t.Errorf("%s contains %s", entry.Name(), inline)
			}
		}
	}
}

func hasHan(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Han, r) })
}

func TestOwnReplies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "replies.json")
	write := func(content string) (Replies, error) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadReplies(file)
	}
	own, err := write(`{"logged_in": "欢迎 {site} {time}", "welcome": ""}`)
	if err != nil || own[ReplyLoggedIn] != "欢迎 {site} {time}" || own[ReplyWelcome] != "" || own[ReplyUsed] != builtinReplies()[ReplyUsed] {
		t.Errorf("%v, %v", own, err)
	}
	for content, want := range map[string]string{
		`{`:                                  "not a JSON object",
		`["x"]`:                              "not a JSON object",
		`{"login": "x"}`:                     "there are",
		`{"used": "{user}"}`:                 "none of {site}, {time}, {place}, {browser}, {from}, {code}",
		`{"confirm_code": "look at {from}"}`: "has no {code}",
		`{"confirm_code": ""}`:               "has no {code}",
		`{"used": "` + strings.Repeat("x", 1801) + `"}`: "longer than",
	} {
		if _, err := write(content); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "WECHAT_REPLY_TEXTS") {
			t.Errorf("%.40s: %v, want %q", content, err, want)
		}
	}
	if _, err := LoadReplies(file + ".none"); err == nil {
		t.Error("a file that isn't there must be an error")
	}
}
