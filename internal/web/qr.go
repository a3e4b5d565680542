package web

import (
	"encoding/base64"
	"sync"

	"rsc.io/qr"
)

// modulePixels is how wide a module is. The page enlarges the picture in whole squares.
const modulePixels = 4

// drawQR draws content as a PNG of one bit a pixel, about 1 KB, with the margin of four
// modules that ISO/IEC 18004 asks for. The encoder always takes the first mask instead of
// weighing all eight, which costs thirty times as much: scanners read one as well as the
// other.
func drawQR(content string) ([]byte, error) {
	code, err := qr.Encode(content, qr.M)
	if err != nil {
		return nil, err
	}
	code.Scale = modulePixels
	return code.PNG(), nil
}

// generation is how many pictures are kept at least: those of the last minutes, about
// 3 MB. Twice as many are kept at most.
const generation = 2048

// pictures keeps codes that were drawn, for the browsers that reconnect.
type pictures struct {
	mu         sync.Mutex
	young, old map[string]string // data URIs by content
}

// of returns the code of content as a data URI.
func (p *pictures) of(content string) (string, error) {
	if uri, ok := p.kept(content); ok {
		return uri, nil
	}
	png, err := drawQR(content)
	if err != nil {
		return "", err
	}
	uri := "data:image/png;base64," + base64.StdEncoding.EncodeToString(png)
	p.keep(content, uri)
	return uri, nil
}

func (p *pictures) kept(content string) (uri string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if uri, ok = p.young[content]; !ok {
		uri, ok = p.old[content]
	}
	return uri, ok
}

func (p *pictures) keep(content, uri string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.young == nil || len(p.young) == generation {
		p.young, p.old = make(map[string]string), p.young
	}
	p.young[content] = uri
}
