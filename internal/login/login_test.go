package login_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scanlogin/internal/login"
)

func anyKey(t *rapid.T) (k login.Key) {
	k.Scene = rapid.Int32Min(1).Draw(t, "scene")
	copy(k.Secret[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret"))
	return k
}

func TestACookieIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		k := anyKey(t)
		back, ok := login.ParseKey(k.Cookie())
		if !ok || back != k {
			t.Fatalf("another key came back from %q", k.Cookie())
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add("")
	f.Add(login.Key{Scene: 1}.Cookie())
	f.Add(login.Key{Scene: -1}.Cookie())
	f.Add(login.Key{Scene: 1}.Cookie() + "=")
	f.Fuzz(func(t *testing.T, cookie string) {
		k, ok := login.ParseKey(cookie)
		if !ok {
			return
		}
		if again, ok := login.ParseKey(k.Cookie()); !ok || again != k || k.Scene < 1 {
			t.Errorf("%q was read as a key that isn't one", cookie)
		}
	})
}

func TestWhatIsNoKey(t *testing.T) {
	t.Parallel()
	whole := login.Key{Scene: 7, Secret: login.NewSecret()}.Cookie()
	for _, cookie := range []string{
		"", "x", whole[1:], whole + "A", whole + "==", "!" + whole[1:],
		login.Key{Scene: 0}.Cookie(), login.Key{Scene: -7}.Cookie(),
	} {
		if _, ok := login.ParseKey(cookie); ok {
			t.Errorf("%q passes for a key", cookie)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := anyKey(t).Secret.ID()
		if back, ok := login.ParseID(id.String()); !ok || back != id {
			t.Fatalf("%v came back as %v", id, back)
		}
		if !strings.HasPrefix(id.String(), id.Short()) || len(id.Short()) != 8 {
			t.Fatalf("%s is not the beginning of %s", id.Short(), id)
		}
	})
	for _, s := range []string{"", "0a", strings.Repeat("0a", 15) + "zz", strings.Repeat("0a", 17)} {
		if _, ok := login.ParseID(s); ok {
			t.Errorf("%q passes for an ID", s)
		}
	}
	if a, b := login.NewSecret(), login.NewSecret(); a == b {
		t.Error("two secrets are the same")
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	for s := login.Waiting; s <= login.Expired; s++ {
		if back, ok := login.ParseState(s.String()); !ok || back != s {
			t.Errorf("%v came back as %v", s, back)
		}
	}
	for _, name := range []string{"", "none", "Waiting", "confirming"} {
		if s, ok := login.ParseState(name); ok || s != 0 {
			t.Errorf("%q passes for the state %v", name, s)
		}
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	t.Parallel()
	k := login.Key{Scene: 7, Secret: login.NewSecret()}
	whole := struct{ Key login.Key }{k}
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("logged", "key", k, "secret", k.Secret, "whole", whole, "ref", k.Ref(), "id", k.Secret.ID())
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb, k, k.Secret, whole)
	}
	if err := json.NewEncoder(&out).Encode(whole); err != nil {
		t.Fatal(err)
	}
	b := k.Secret[:]
	numbers := strings.Trim(fmt.Sprintf("%d", k.Secret[:8]), "[]")
	for _, shown := range []string{
		string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), k.Cookie(),
		base64.StdEncoding.EncodeToString(b[:30]), base64.RawURLEncoding.EncodeToString(b),
		numbers, strings.ReplaceAll(numbers, " ", ","),
		strings.Trim(fmt.Sprintf("%#v", b[:8]), "[]byte{}"),
	} {
		if strings.Contains(out.String(), shown) {
			t.Errorf("the secret shows as %q", shown)
		}
	}
	if !strings.Contains(out.String(), k.Secret.ID().Short()) {
		t.Error("a key can't be followed through the log")
	}
}
