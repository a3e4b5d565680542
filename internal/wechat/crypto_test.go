package wechat

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

const (
	testKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	testAppID = "wxba5fad812f8e6fb9"
)

func testCipher(t testing.TB, appID string) *Cipher {
	t.Helper()
	c, err := NewCipher(testKey, appID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewCipherNamesTheProblemNotTheKey(t *testing.T) {
	for name, tc := range map[string]struct{ key, appID, want string }{
		"empty":        {"", testAppID, "0 characters"},
		"too short":    {testKey[1:], testAppID, "42 characters"},
		"padded":       {testKey + "=", testAppID, "44 characters"},
		"not base64":   {testKey[:42] + "!", testAppID, "not base64"},
		"URL alphabet": {testKey[:42] + "_", testAppID, "not base64"},
		"line break":   {testKey[:42] + "\n", testAppID, "not base64"},
		"no appid":     {testKey, "", "empty appid"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewCipher(tc.key, tc.appID)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), testKey[:8]) {
				t.Errorf("the key stands in %q", err)
			}
		})
	}
}

func TestNewCipherTakesEveryLastCharacter(t *testing.T) {
	// The stray bits of the last character make most real keys non-canonical.
	for _, last := range "ABCDwxyz0189+/" {
		if _, err := NewCipher(testKey[:42]+string(last), testAppID); err != nil {
			t.Errorf("last character %c: %v", last, err)
		}
	}
}

func TestEncryptDecrypts(t *testing.T) {
	c := testCipher(t, testAppID)
	for size := range 100 { // every length of padding, thrice
		msg := bytes.Repeat([]byte("x"), size)
		sealed, err := c.Encrypt(msg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Decrypt(sealed)
		if err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("%d bytes: %q, %v", size, got, err)
		}
	}
}

func TestEncryptNeverRepeats(t *testing.T) {
	c := testCipher(t, testAppID)
	a, _ := c.Encrypt([]byte("same"))
	b, _ := c.Encrypt([]byte("same"))
	if a == b {
		t.Fatal("one message was encrypted to the same text twice")
	}
}

func TestDecryptRefusesWhatIsDamaged(t *testing.T) {
	c := testCipher(t, testAppID)
	// Fixed random bytes: damaged padding is right by chance once in 256 times.
	sealed, err := c.seal([randomSize]byte{}, []byte("a message of some length, over a block"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range raw {
		if msg, err := c.Decrypt(base64.StdEncoding.EncodeToString(raw[:cut])); err == nil {
			t.Errorf("cut to %d bytes: %q", cut, msg)
		}
	}
	raw[len(raw)-1] ^= 1
	if _, err := c.Decrypt(base64.StdEncoding.EncodeToString(raw)); !errors.Is(err, ErrCiphertext) {
		t.Errorf("last byte flipped: %v", err)
	}
}

func TestDecryptOfAnotherAccount(t *testing.T) {
	ours := testCipher(t, testAppID)
	for _, appID := range []string{"wx1", testAppID + "x", testAppID[1:], "x" + testAppID, strings.ToUpper(testAppID)} {
		sealed, err := testCipher(t, appID).Encrypt([]byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ours.Decrypt(sealed); !errors.Is(err, ErrForeignAppID) {
			t.Errorf("%s: %v", appID, err)
		}
	}
}

func TestVerifySignature(t *testing.T) {
	good := Sign("token", "1714036504", "nonce")
	if !VerifySignature(good, "nonce", "token", "1714036504") {
		t.Error("the order of the parts counts")
	}
	for name, want := range map[string]string{
		"empty":       "",
		"prefix":      good[:39],
		"longer":      good + "0",
		"upper case":  strings.ToUpper(good),
		"first digit": flip(good, 0),
		"last digit":  flip(good, 39),
	} {
		if VerifySignature(want, "token", "1714036504", "nonce") {
			t.Errorf("%s: verified", name)
		}
	}
}

func TestVerifySignatureOfAnEmptyPart(t *testing.T) {
	for _, parts := range [][]string{
		{"", "1714036504", "nonce"},
		{"token", "", "nonce"},
		{"token", "1714036504", ""},
		{"token", "1714036504", "nonce", ""},
	} {
		if VerifySignature(Sign(parts...), parts...) {
			t.Errorf("%q: verified", parts)
		}
	}
}

func TestSignLeavesItsPartsAlone(t *testing.T) {
	parts := []string{"b", "a"}
	Sign(parts...)
	if parts[0] != "b" {
		t.Error("the caller's slice was sorted")
	}
}

func flip(hex string, at int) string {
	b := []byte(hex)
	if b[at] == '0' {
		b[at] = '1'
	} else {
		b[at] = '0'
	}
	return string(b)
}

func FuzzDecrypt(f *testing.F) {
	v := loadVectors(f)
	for _, c := range append(v.Crypto, v.Negative...) {
		f.Add(c.Encrypt, []byte(c.Plaintext))
	}
	for _, seed := range []string{"", "=", "AAAA", strings.Repeat("A", 43) + "=", strings.Repeat("A\n", 64), "\xff"} {
		f.Add(seed, []byte(seed))
	}
	c := testCipher(f, testAppID)
	f.Fuzz(func(t *testing.T, encrypt string, msg []byte) {
		// Nobody without the key writes a message, but for a freak of chance.
		if got, err := c.Decrypt(encrypt); err == nil {
			t.Errorf("Decrypt of a foreign text = %q", got)
		} else if !errors.Is(err, ErrCiphertext) && !errors.Is(err, ErrForeignAppID) {
			t.Errorf("Decrypt = %v", err)
		}
		sealed, err := c.Encrypt(msg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Decrypt(sealed)
		if err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("round trip of %q = %q, %v", msg, got, err)
		}
	})
}
