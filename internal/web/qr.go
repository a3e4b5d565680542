package web

import (
	"encoding/base64"
	"errors"
	"sync"

	"rsc.io/qr/coding"
)

// draw draws content as a PNG of about 1 KB. It always takes the first mask instead of
// weighing all eight, which costs thirty times as much: scanners read one as well as the
// other.
func (p *pictures) draw(content string) ([]byte, error) {
	plan, err := p.planFor(coding.String(content))
	if err != nil {
		return nil, err
	}
	code, err := plan.Encode(coding.String(content))
	if err != nil {
		return nil, err
	}
	return writePNG(code), nil
}

// planFor says where the bits go in the smallest code that takes text. It is kept: WeChat's
// codes are all of one size.
func (p *pictures) planFor(text coding.String) (*coding.Plan, error) {
	version := coding.Version(coding.MinVersion)
	for text.Bits(version) > version.DataBytes(coding.M)*8 {
		if version++; version > largestPNG {
			return nil, errors.New("web: text is too long for a QR code")
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if plan, ok := p.plans[version]; ok {
		return plan, nil
	}
	plan, err := coding.NewPlan(version, coding.M, 0)
	if err != nil {
		return nil, err
	}
	if p.plans == nil {
		p.plans = make(map[coding.Version]*coding.Plan)
	}
	p.plans[version] = plan
	return plan, nil
}

// generation is how many pictures are kept at least, 1.5 MB of them; twice as many at most.
// Go keeps room for as much again, so that this is a good part of what idle streams take.
// A picture that is missed is drawn again, which costs less than opening its stream does.
const generation = 1024

// pictures keeps codes that were drawn, for the browsers that reconnect.
type pictures struct {
	mu         sync.Mutex
	young, old map[string]string // data URIs by content
	plans      map[coding.Version]*coding.Plan
}

// of returns the code of content as a data URI.
func (p *pictures) of(content string) (string, error) {
	if uri, ok := p.kept(content); ok {
		return uri, nil
	}
	png, err := p.draw(content)
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
