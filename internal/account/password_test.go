package account

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

// The argon2id vectors of the reference implementation that are within this
// package's bounds: https://github.com/P-H-C/phc-winner-argon2/blob/master/src/test.c
// (The vector of RFC 9106, section 5.3, needs a secret and associated data,
// which passwords don't have; x/crypto tests itself against it.)
func TestReferenceVectors(t *testing.T) {
	for _, test := range []struct{ text, key string }{
		{
			"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
			"09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
		},
		{
			"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
			"9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe",
		},
		{
			"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
			"6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037",
		},
	} {
		stored, err := parsePHC(test.text)
		if err != nil {
			t.Fatalf("parsePHC(%q): %v", test.text, err)
		}
		if got := hex.EncodeToString(stored.derive("password")); got != test.key {
			t.Errorf("%s: key %s, want %s", test.text, got, test.key)
		}
		if got := stored.String(); got != test.text {
			t.Errorf("written back as %s, want %s", got, test.text)
		}
		checkMatch(t, stored, "password", true)
		checkMatch(t, stored, "Password", false)
	}
}

func checkMatch(t *testing.T, stored phc, password string, want bool) {
	t.Helper()
	var h hasher
	got, err := h.matches(t.Context(), stored, password)
	if err != nil || got != want {
		t.Errorf("matches(%s, %q) = %v, %v, want %v", stored, password, got, err, want)
	}
}

func TestHashIsSaltedAndCurrent(t *testing.T) {
	var h hasher
	first, err := h.hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("two hashes of one password are the same: no salt")
	}
	if !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %s doesn't have the parameters of OWASP", first)
	}
	stored, err := parsePHC(first)
	if err != nil {
		t.Fatal(err)
	}
	if stored.weak() {
		t.Error("a fresh hash counts as weak")
	}
	checkMatch(t, stored, "correct horse", true)
}

func TestParsePHCRefuses(t *testing.T) {
	const salt, key = "c29tZXNhbHQ", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	for name, text := range map[string]string{
		"nothing":             "",
		"bcrypt":              "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
		"argon2i":             "$argon2i$v=19$m=256,t=2,p=1$" + salt + "$" + key,
		"old version":         "$argon2id$v=16$m=256,t=2,p=1$" + salt + "$" + key,
		"no version":          "$argon2id$m=256,t=2,p=1$" + salt + "$" + key,
		"text before":         "x$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + key,
		"text after":          "$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + key + "$",
		"gigabytes":           "$argon2id$v=19$m=4194304,t=2,p=1$" + salt + "$" + key,
		"beyond 32 bits":      "$argon2id$v=19$m=4294967552,t=2,p=1$" + salt + "$" + key,
		"hours":               "$argon2id$v=19$m=256,t=100000,p=1$" + salt + "$" + key,
		"many threads":        "$argon2id$v=19$m=65536,t=2,p=255$" + salt + "$" + key,
		"threads beyond byte": "$argon2id$v=19$m=65536,t=2,p=257$" + salt + "$" + key,
		"memory below 8*p":    "$argon2id$v=19$m=31,t=2,p=4$" + salt + "$" + key,
		"no passes":           "$argon2id$v=19$m=256,t=0,p=1$" + salt + "$" + key,
		"no threads":          "$argon2id$v=19$m=256,t=2,p=0$" + salt + "$" + key,
		"negative":            "$argon2id$v=19$m=-256,t=2,p=1$" + salt + "$" + key,
		"plus sign":           "$argon2id$v=19$m=+256,t=2,p=1$" + salt + "$" + key,
		"leading zero":        "$argon2id$v=19$m=0256,t=2,p=1$" + salt + "$" + key,
		"other order":         "$argon2id$v=19$t=2,m=256,p=1$" + salt + "$" + key,
		"key id":              "$argon2id$v=19$m=256,t=2,p=1,keyid=x$" + salt + "$" + key,
		"short salt":          "$argon2id$v=19$m=256,t=2,p=1$c2FsdA$" + key,
		"long salt":           "$argon2id$v=19$m=256,t=2,p=1$" + strings.Repeat("AAAA", 22) + "$" + key,
		"short key":           "$argon2id$v=19$m=256,t=2,p=1$" + salt + "$AAAA",
		"long key":            "$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + strings.Repeat("AAAA", 1<<20),
		"padding":             "$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + key + "=",
		"line break":          "$argon2id$v=19$m=256,t=2,p=1$" + salt + "$" + key + "\n",
		"loose last bits":     "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHR$" + key,
	} {
		if got, err := parsePHC(text); !errors.Is(err, errHash) {
			t.Errorf("%s: parsePHC = %v, %v, want %v", name, got, err, errHash)
		}
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add("$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")
	f.Add(decoy().String())
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parsePHC(text)
		if err != nil {
			return
		}
		if h.memory > maxMemory || h.memory < 8*uint32(h.threads) || h.passes < 1 || h.passes > maxPasses ||
			h.threads < 1 || h.threads > maxThreads || len(h.salt) > maxBlob || len(h.key) > maxBlob {
			t.Errorf("parsePHC(%q) lets parameters out of bounds through", text)
		}
		if h.String() != text {
			t.Errorf("parsePHC(%q) is written back as %q", text, h)
		}
	})
}

func TestWeakHashes(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*phc)
		want   bool
	}{
		"today's":         {func(*phc) {}, false},
		"less memory":     {func(h *phc) { h.memory /= 2 }, true},
		"fewer passes":    {func(h *phc) { h.passes = 1 }, true},
		"OWASP's 46 MiB":  {func(h *phc) { h.memory, h.passes = 47104, 1 }, false},
		"more of it all":  {func(h *phc) { h.memory, h.passes, h.threads = maxMemory, maxPasses, maxThreads }, false},
		"a shorter salt":  {func(h *phc) { h.salt = h.salt[:8] }, true},
		"a shorter key":   {func(h *phc) { h.key = h.key[:16] }, true},
		"another key, ok": {func(h *phc) { h.key = make([]byte, 64) }, false},
	} {
		h := today()
		test.change(&h)
		if got := h.weak(); got != test.want {
			t.Errorf("%s: weak = %v, want %v", name, got, test.want)
		}
	}
}

// A decoy that cost less or more than a real hash would tell which names exist.
func TestDecoyCostsWhatAHashCosts(t *testing.T) {
	var h hasher
	text, err := h.hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	hashed, err := parsePHC(text)
	if err != nil {
		t.Fatal(err)
	}
	d := decoy()
	if d.memory != hashed.memory || d.passes != hashed.passes || d.threads != hashed.threads ||
		len(d.salt) != len(hashed.salt) || len(d.key) != len(hashed.key) {
		t.Errorf("the decoy %s has other parameters than %s", d, hashed)
	}
}

func TestBurstWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hasher{}
		if _, err := h.hash(t.Context(), "the first call makes the slots"); err != nil {
			t.Fatal(err)
		}
		for range cap(h.slots) {
			h.slots <- struct{}{}
		}
		impatient, giveUp := context.WithCancel(t.Context())
		results := make(chan error, 2)
		go func() { _, err := h.hash(impatient, "impatient"); results <- err }()
		synctest.Wait()
		if len(results) != 0 {
			t.Fatal("hashed without a free slot")
		}
		giveUp()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("waiting ended with %v, want %v", err, context.Canceled)
		}
		go func() { _, err := h.hash(t.Context(), "patient"); results <- err }()
		synctest.Wait()
		<-h.slots
		if err := <-results; err != nil {
			t.Errorf("with a slot free again: %v", err)
		}
	})
}
