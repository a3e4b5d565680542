package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scanlogin/internal/wechatsim"
)

func writeFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "replies.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// check runs `scanlogin wechat check` with some settings changed, and returns the lines
// that say what is wrong.
func (w *world) check(t testing.TB, own settings) (wrong []string, r result) {
	t.Helper()
	env := maps.Clone(w.settings)
	maps.Copy(env, own)
	r = run(t, env, "", "wechat", "check")
	for line := range strings.Lines(r.stdout) {
		if strings.HasPrefix(line, "WRONG") {
			wrong = append(wrong, line)
		}
	}
	for _, secret := range []string{appSecret, token, aesKey} {
		if strings.Contains(r.stdout+r.stderr, secret) {
			t.Error("a secret is shown")
		}
	}
	return wrong, r
}

func TestCheckFindsNothingWrong(t *testing.T) {
	t.Parallel()
	for mode, key := range map[string]string{"plain": "", "safe": aesKey} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{settings: settings{"WECHAT_ENCODING_AES_KEY": key}})
			b := newBrowser(t, w)
			stream := b.events(w.a)
			code := stream.code()
			wrong, r := w.check(t, nil)
			if r.code != 0 || len(wrong) > 0 || r.stderr != "" || strings.Count(r.stdout, "ok ") < 10 {
				t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
			}
			if key != "" {
				other := settings{"WECHAT_ENCODING_AES_KEY": oldAESKey}
				if wrong, r := w.check(t, other); r.code != 1 || len(wrong) != 1 || !strings.Contains(wrong[0], "the same WECHAT_ENCODING_AES_KEY") {
					t.Errorf("another key: exit %d: %s%s", r.code, r.stdout, r.stderr)
				}
			}
			// It changes no login, and isn't what the account's name is learned from.
			w.scan(t, w.person(true), code.Ticket)
			stream.expect("bind-required")
		})
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for name, c := range map[string]struct {
		settings settings
		endpoint string
		code     int
		words    []string
	}{
		"a wrong AppSecret":                {settings: settings{"WECHAT_APP_SECRET": "an-app-secret-of-another-account"}, words: []string{"40125", "WECHAT_APP_SECRET"}},
		"not on the list":                  {endpoint: wechatsim.EndpointStableToken, code: 40164, words: []string{"40164", "127.0.0.1", "IP白名单"}},
		"no right to QR codes":             {endpoint: wechatsim.EndpointQRCode, code: 48001, words: []string{"48001", "认证服务号"}},
		"a spent quota":                    {endpoint: wechatsim.EndpointQRCode, code: 45009, words: []string{"45009", "quota"}},
		"another token":                    {settings: settings{"WECHAT_TOKEN": "anothertoken"}, words: []string{"WECHAT_TOKEN", "令牌(Token)"}},
		"another mode":                     {settings: settings{"WECHAT_ENCODING_AES_KEY": aesKey}, words: []string{"safe mode", "消息加解密方式"}},
		"a callback that can't be reached": {settings: settings{"PUBLIC_URL": "http://" + freeAddr(t)}, words: []string{"/wechat/callback", "doesn't answer"}},
	} {
		w.fairWeather()
		if c.code != 0 {
			w.refuse(c.endpoint, c.code)
		}
		wrong, r := w.check(t, c.settings)
		if r.code != 1 || len(wrong) != 1 || !oneLine(r.stderr) {
			t.Errorf("%s: exit %d: %s%s", name, r.code, r.stdout, r.stderr)
			continue
		}
		for _, word := range c.words {
			if !strings.Contains(wrong[0], word) {
				t.Errorf("%s: nothing is said of %s: %s", name, word, wrong[0])
			}
		}
	}
}

func TestServeRefusesWhatCanNotWork(t *testing.T) {
	t.Parallel()
	env := settings{
		"DATABASE_URL": "postgres://localhost/none", "WECHAT_APP_ID": appID, "WECHAT_APP_SECRET": appSecret,
		"WECHAT_TOKEN": token, "ADDR": freeAddr(t), "OPS_ADDR": "",
	}
	for name, value := range map[string]string{
		"WECHAT_TOKEN": "", "WECHAT_TOKEN_PREVIOUS": "ab", "WECHAT_ENCODING_AES_KEY": aesKey[:42],
		"WECHAT_ENCODING_AES_KEY_PREVIOUS": aesKey, "PUBLIC_URL": "login.example.com", "UNSUBSCRIBE": "never",
		"WECHAT_FORWARD_URL": "bot.example.com", "WECHAT_TOKEN_URL": "ftp://token.example.com/",
	} {
		own := maps.Clone(env)
		own[name] = value
		r := run(t, own, "", "serve")
		if r.code != 1 || !strings.Contains(r.stderr, name) || value != "" && len(value) > 20 && strings.Contains(r.stderr, value) {
			t.Errorf("%s=%.5s…: exit %d: %s", name, value, r.code, r.stderr)
		}
	}
}
