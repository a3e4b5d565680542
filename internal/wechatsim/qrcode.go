package wechatsim

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/boombuler/barcode"
	"github.com/boombuler/barcode/qr"
)

const (
	maxCodeLife     = 2592000 * time.Second
	defaultCodeLife = 60 * time.Second
	keptExpired     = time.Hour // how long an expired code still answers "expired"
	keptCodes       = 100_000   // over that, the oldest go
)

// Code is a QR code that the API has made.
type Code struct {
	Ticket    string
	SceneID   int64  // 0 for a code with SceneStr, and for one that was made without any
	SceneStr  string // of a QR_STR_SCENE
	URL       string // what the picture says
	CreatedAt time.Time
	ExpiresAt time.Time
	Scans     int
}

// Expired tells whether a phone would show "expired" at t.
func (c Code) Expired(t time.Time) bool { return !t.Before(c.ExpiresAt) }

// scene is the code's scene as events carry it.
func (c Code) scene() string {
	if c.SceneStr != "" {
		return c.SceneStr
	}
	return strconv.FormatInt(c.SceneID, 10)
}

// codes holds the QR codes. Its methods want the server's lock.
type codes struct {
	byTicket map[string]*Code
	byPath   map[string]*Code // by the last part of the URL
	order    []*Code          // as created
	swept    time.Time
	day      string // Asia/Shanghai
	created  int    // on that day
}

func newCodes() codes {
	return codes{byTicket: map[string]*Code{}, byPath: map[string]*Code{}}
}

func today() string { return shanghai(time.Now()) }

// today returns the number of codes created on day.
func (c *codes) today(day string) int {
	if c.day != day {
		return 0
	}
	return c.created
}

func (c *codes) add(code *Code) {
	if day := shanghai(code.CreatedAt); c.day != day {
		c.day, c.created = day, 0
	}
	c.created++
	c.sweep(code.CreatedAt)
	c.byTicket[code.Ticket] = code
	c.byPath[pathOf(code.URL)] = code
	c.order = append(c.order, code)
}

// sweep forgets, once a minute, the codes that expired long ago, and keeps within keptCodes.
func (c *codes) sweep(now time.Time) {
	if len(c.order) >= keptCodes {
		c.forget(c.order[0])
		c.order = c.order[1:]
	}
	if now.Sub(c.swept) < time.Minute {
		return
	}
	c.swept = now
	c.order = slices.DeleteFunc(c.order, func(code *Code) bool {
		old := code.Expired(now.Add(-keptExpired))
		if old {
			c.forget(code)
		}
		return old
	})
}

func (c *codes) forget(code *Code) {
	delete(c.byTicket, code.Ticket)
	delete(c.byPath, pathOf(code.URL))
}

// newest returns up to limit codes that keep says yes to, newest first.
func (c *codes) newest(limit int, keep func(Code) bool) []Code {
	var out []Code
	for _, code := range slices.Backward(c.order) {
		if len(out) == limit {
			break
		}
		if keep(*code) {
			out = append(out, *code)
		}
	}
	return out
}

// Codes returns the codes that can be scanned now, newest first.
func (s *Server) Codes() []Code {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.codes.newest(keptCodes, open(time.Now()))
}

func open(now time.Time) func(Code) bool {
	return func(c Code) bool { return !c.Expired(now) }
}

// codeByURL finds the code whose picture says raw.
func (s *Server) codeByURL(raw string) (Code, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := s.codes.byPath[pathOf(raw)]
	if code == nil {
		return Code{}, ErrUnknownCode
	}
	return *code, nil
}

func (s *Server) codeByTicket(ticket string) (Code, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	code := s.codes.byTicket[ticket]
	if code == nil {
		return Code{}, ErrUnknownCode
	}
	return *code, nil
}

func pathOf(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// createCode makes a code for the scene; base is where its url leads to. It
// reports false when the day's quota is spent.
func (s *Server) createCode(sceneID int64, sceneStr string, life time.Duration, base string) (Code, bool) {
	path := newPath()
	now := time.Now()
	code := &Code{
		Ticket:   newTicket(path, now, life),
		SceneID:  sceneID,
		SceneStr: sceneStr,
		URL:      base + "/q/" + path,

		CreatedAt: now,
		ExpiresAt: now.Add(life),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.codes.today(shanghai(now)) >= s.cfg.DailyCodes {
		return Code{}, false
	}
	s.codes.add(code)
	s.stats.Codes++
	s.version++
	return *code, true
}

// newPath is the 20 characters after /q/.
func newPath() string {
	b := make([]byte, 15)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// newTicket builds a ticket as real ones are built, seen by decoding them: a
// header with two bytes that vary and the length, then tagged fields: the URL with
// a final zero, the time of creation and the life in seconds (32 bit, little
// endian). In standard base64 that is 96 characters, with = at the end and any of
// + and / before, which go wrong where a ticket is not escaped in a URL.
func newTicket(path string, created time.Time, life time.Duration) string {
	var body bytes.Buffer
	link := "http://weixin.qq.com/q/" + path + "\x00"
	body.WriteByte(1)
	body.WriteByte(byte(len(link)))
	body.WriteString(link)
	body.Write(field(2, created.Unix()))
	body.Write(field(3, int64(life/time.Second)))

	head := make([]byte, 12)
	rand.Read(head[2:4])
	head[0], head[1], head[4] = 0x81, 0x01, byte(body.Len())
	return base64.StdEncoding.EncodeToString(append(head, body.Bytes()...))
}

func field(tag byte, v int64) []byte {
	return binary.LittleEndian.AppendUint32([]byte{tag, 4}, uint32(v)) // the format has 32 bits
}

// picture draws text as a QR code of 430 by 430 pixels, PNG.
func picture(text string) ([]byte, error) {
	const size, margin = 430, 30
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return nil, fmt.Errorf("encode the QR code: %w", err)
	}
	if code, err = barcode.Scale(code, size-2*margin, size-2*margin); err != nil {
		return nil, fmt.Errorf("scale the QR code: %w", err)
	}
	img := image.NewPaletted(image.Rect(0, 0, size, size), color.Palette{color.White, color.Black})
	draw.Draw(img, code.Bounds().Add(image.Pt(margin, margin)), code, image.Point{}, draw.Src)
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		return nil, fmt.Errorf("draw the QR code: %w", err)
	}
	return out.Bytes(), nil
}
