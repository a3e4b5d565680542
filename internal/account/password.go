package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
)

// The cost of one hash, as the OWASP Password Storage Cheat Sheet asks for at
// least ("19 MiB of memory, an iteration count of 2, and 1 degree of
// parallelism"):
// https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id
const (
	hashMemory  = 19456 // KiB
	hashPasses  = 2
	hashThreads = 1
	saltBytes   = 16
	keyBytes    = 32
)

// What a stored hash may ask for. Parameters come with the row, so without
// bounds a hostile or damaged row could have gigabytes allocated.
const (
	maxMemory  = 128 * 1024 // KiB
	maxPasses  = 16
	maxThreads = 16
	minSalt    = 8
	minKey     = 16
	maxBlob    = 64 // bytes of salt, of key
)

var errHash = errors.New("malformed password hash")

// phc is an argon2id hash with what is needed to compute it again.
type phc struct {
	memory  uint32 // KiB
	passes  uint32
	threads uint8
	salt    []byte
	key     []byte
}

// String writes the hash in PHC string format:
// https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md
func (h phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.memory, h.passes, h.threads, phcText().EncodeToString(h.salt), phcText().EncodeToString(h.key))
}

// parsePHC reads what [phc.String] writes and nothing else: no other
// variant or version, no leading zeros, no parameters out of bounds.
func parsePHC(s string) (phc, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return phc{}, errHash
	}
	h, ok := parseCost(parts[3])
	if !ok {
		return phc{}, errHash
	}
	if h.salt, ok = parseBlob(parts[4], minSalt); !ok {
		return phc{}, errHash
	}
	if h.key, ok = parseBlob(parts[5], minKey); !ok {
		return phc{}, errHash
	}
	return h, nil
}

// parseCost reads "m=19456,t=2,p=1".
func parseCost(s string) (phc, bool) {
	parts := strings.Split(s, ",")
	if len(parts) != 3 {
		return phc{}, false
	}
	threads, okThreads := parseParameter(parts[2], "p=", 1, maxThreads)
	passes, okPasses := parseParameter(parts[1], "t=", 1, maxPasses)
	// RFC 9106, section 3.1: the memory is at least 8*p KiB.
	memory, okMemory := parseParameter(parts[0], "m=", 8*threads, maxMemory)
	return phc{memory: memory, passes: passes, threads: uint8(threads)}, okThreads && okPasses && okMemory
}

func parseParameter(s, prefix string, least, most uint32) (uint32, bool) {
	digits, ok := strings.CutPrefix(s, prefix)
	if !ok || strings.HasPrefix(digits, "0") {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n < uint64(least) || n > uint64(most) {
		return 0, false
	}
	return uint32(n), true
}

func parseBlob(s string, least int) ([]byte, bool) {
	if len(s) > phcText().EncodedLen(maxBlob) || strings.ContainsAny(s, "\r\n") { // which the decoder would skip
		return nil, false
	}
	b, err := phcText().DecodeString(s)
	return b, err == nil && len(b) >= least
}

func phcText() *base64.Encoding { return base64.RawStdEncoding.Strict() }

// weak says that a hash made today would be harder to search. It compares
// the work rather than each parameter, so that two releases side by side
// don't hash the same password back and forth.
func (h phc) weak() bool {
	return h.memory*h.passes < hashMemory*hashPasses || len(h.salt) < saltBytes || len(h.key) < keyBytes
}

// derive computes the key that password would have with h's parameters.
func (h phc) derive(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.threads, uint32(len(h.key)))
}

// today is a hash with the current parameters and still without a salt's or
// key's content.
func today() phc {
	return phc{
		memory: hashMemory, passes: hashPasses, threads: hashThreads,
		salt: make([]byte, saltBytes), key: make([]byte, keyBytes),
	}
}

// decoy is compared with where there is no user, so that an answer's time
// doesn't tell which names exist. The result of that comparison is not used.
func decoy() phc { return today() }

// hasher hashes passwords, no more at a time than there are processors: more
// would not be faster, and each takes [hashMemory], so a burst of logins
// could exhaust the memory. The zero value is ready to use.
type hasher struct {
	once  sync.Once
	slots chan struct{}
}

// hash returns the password's hash with a fresh salt, as text. The only
// error is the context's.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	fresh := today()
	rand.Read(fresh.salt) // never returns an error, see crypto/rand.Read
	key, err := h.derive(ctx, fresh, password)
	if err != nil {
		return "", err
	}
	fresh.key = key
	return fresh.String(), nil
}

// matches says whether the password is the one that was hashed. The only
// error is the context's.
func (h *hasher) matches(ctx context.Context, stored phc, password string) (bool, error) {
	key, err := h.derive(ctx, stored, password)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, stored.key) == 1, nil
}

// derive waits for a free slot, or for the context's end.
func (h *hasher) derive(ctx context.Context, with phc, password string) ([]byte, error) {
	h.once.Do(func() { h.slots = make(chan struct{}, runtime.GOMAXPROCS(0)) })
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
		return with.derive(password), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
