package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"scanlogin/internal/wechat"
)

// wechatPatience and wechatTries are what WeChat allows a callback.
const (
	wechatPatience = 5 * time.Second
	wechatTries    = 3
)

// countOf is what an event is counted as.
func countOf(event string) string { return strings.ReplaceAll(event, "-", "_") }

// login is one person's: the page, the code, the scan, the event, the session.
func (s *swarm) login(acting, all context.Context, due time.Time) {
	ctx, leave := context.WithCancel(all)
	defer leave()
	b := s.browse("qr", due)
	defer b.close()
	var sc *scan
	for {
		e, err := b.next(ctx)
		switch {
		case err != nil:
			s.unfinished(sc)
			return
		case e.name != "qr":
			s.outcome(all, b, sc, e)
			return
		}
		c, err := b.shown(e)
		if err == nil && sc == nil {
			sc = s.scanLater(acting, ctx, leave, c, e.at)
		}
	}
}

// scan is one person's, of one code. All but due is to be read after done only.
type scan struct {
	due     time.Time
	expires time.Time // when the code runs out, at the earliest
	sent    time.Time // zero: it wasn't
	acked   time.Time // zero: it wasn't
	done    chan struct{}
	stop    func() // before it is sent
}

// scanLater scans the code after some thought. Where that comes to nothing it leaves:
// nothing will happen to the login.
func (s *swarm) scanLater(acting, ctx context.Context, leave func(), c code, shown time.Time) *scan {
	think, stop := context.WithCancel(ctx)
	sc := &scan{
		due:     shown.Add(time.Duration(rand.ExpFloat64() * float64(s.Think))),
		expires: c.expires(shown),
		done:    make(chan struct{}),
		stop:    stop,
	}
	s.work.Go(func() {
		defer close(sc.done)
		defer stop()
		defer context.AfterFunc(acting, stop)() // after the window nobody scans
		if sleepUntil(think, sc.due) == nil {
			s.scan(ctx, sc, c, fmt.Sprintf("oSWARM%022d", rand.IntN(s.People)))
		}
		if sc.acked.IsZero() {
			leave()
		}
	})
	return sc
}

// scan sends the callback, again where WeChat would.
func (s *swarm) scan(ctx context.Context, sc *scan, c code, openid string) {
	sc.sent = s.tally.begin(sc.due)
	s.tally.add("scans", 1)
	begun, tries := sc.sent, 1
	for {
		err := s.callback(ctx, c, openid, sc.sent)
		if err == nil {
			sc.acked = time.Now()
			s.tally.add("acknowledged", 1)
			break
		}
		if ctx.Err() != nil {
			break
		}
		s.tally.fail("callback", err)
		if tries == wechatTries || sleepUntil(ctx, begun.Add(wechatPatience)) != nil {
			break
		}
		begun, tries = time.Now(), tries+1
		s.tally.add("callback_retries", 1)
	}
	s.tally.span("callback", sc.due, begun, time.Now())
}

// outcome is the event that decides a login.
func (s *swarm) outcome(all context.Context, b *browser, sc *scan, e event) {
	if e.name == "success" {
		s.tally.add("pushed", 1)
		s.post(all, b, "complete", "/login/complete", "completed", e.at, map[string]string{})
	}
	if e.name == "bind-required" {
		s.tally.add("pushed", 1)
		if s.username != "" {
			s.post(all, b, "bind", "/user/bind", "bound", e.at, map[string]string{"username": s.username, "password": s.password})
		}
	}
	s.tally.add(countOf(e.name), 1)
	if sc == nil {
		return // the page was opened when it was over already
	}
	sc.stop() // nobody scans what has expired
	<-sc.done
	s.told(sc, e)
}

// scanStream is a scan of what a held stream shows, by somebody whom nobody knows, and
// what the stream is told.
func (s *swarm) scanStream(all context.Context, b *browser, sc *scan, c code) {
	s.scan(all, sc, c, fmt.Sprintf("oNEW%024d", rand.Uint64()))
	if sc.acked.IsZero() {
		return
	}
	select {
	case e := <-b.fate:
		if e.name != "expired" {
			s.tally.add("pushed", 1)
		}
		s.told(sc, e)
	case <-all.Done():
		s.lost(sc)
	}
}

// told is the event that came of a scan, or in spite of it.
func (s *swarm) told(sc *scan, e event) {
	switch {
	case sc.sent.IsZero():
	case e.name != "expired":
		s.tally.span("push", sc.due, sc.sent, e.at)
		if !sc.acked.IsZero() {
			s.tally.record("after_answer", e.at.Sub(sc.acked)) // 0 where the event was first
		}
	case !sc.acked.IsZero() && sc.sent.Before(sc.expires):
		s.lost(sc) // it was in time
	}
}

// unfinished is a login without an outcome: lost where its scan was acknowledged.
func (s *swarm) unfinished(sc *scan) {
	if sc != nil {
		sc.stop()
		<-sc.done
		if !sc.acked.IsZero() {
			s.lost(sc)
			return
		}
	}
	s.tally.add("unfinished", 1)
}

// lost counts with its age, so that the percentiles don't hide it.
func (s *swarm) lost(sc *scan) {
	s.tally.add("lost", 1)
	s.tally.span("push", sc.due, sc.sent, time.Now())
}

// post is a form that the page sends, due with the event that made it.
func (s *swarm) post(ctx context.Context, b *browser, name, path, count string, due time.Time, fields any) {
	body, err := json.Marshal(fields)
	if err != nil {
		panic(err) // strings only
	}
	begun := s.tally.begin(due)
	err = s.do(ctx, patience, s.anyTarget().url+path, body, func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Cookie", b.cookies.String())
	})
	s.tally.span(name, due, begun, time.Now())
	if err != nil {
		s.tally.fail(name, err)
		return
	}
	s.tally.add(count, 1)
}

// callback pushes a scan as WeChat does: signed, and encrypted where there is a key.
//
// Source: developers.weixin.qq.com/doc/subscription/guide/dev/push/encryption.html
func (s *swarm) callback(ctx context.Context, c code, openid string, created time.Time) error {
	body := fmt.Appendf(nil, "<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName>"+
		"<CreateTime>%d</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[SCAN]]></Event>"+
		"<EventKey><![CDATA[%d]]></EventKey><Ticket><![CDATA[%s]]></Ticket></xml>",
		s.wechat.originalID, openid, created.Unix(), c.Scene, c.Ticket)
	timestamp, nonce := strconv.FormatInt(time.Now().Unix(), 10), strconv.Itoa(rand.IntN(1<<31))
	query := url.Values{"timestamp": {timestamp}, "nonce": {nonce}, "openid": {openid}}
	query.Set("signature", wechat.Sign(s.wechat.token, timestamp, nonce))
	if s.wechat.cipher != nil {
		sealed, err := s.wechat.cipher.Encrypt(body)
		if err != nil {
			return err
		}
		query.Set("encrypt_type", "aes")
		query.Set("msg_signature", wechat.Sign(s.wechat.token, timestamp, nonce, sealed))
		body = fmt.Appendf(nil, "<xml><ToUserName><![CDATA[%s]]></ToUserName><Encrypt><![CDATA[%s]]></Encrypt></xml>", s.wechat.originalID, sealed)
	}
	return s.do(ctx, wechatPatience, s.anyTarget().url+"/wechat/callback?"+query.Encode(), body, func(r *http.Request) {
		r.Header.Set("Content-Type", "text/xml")
		r.Header.Set("User-Agent", "Mozilla/4.0")
	})
}

// do posts a body and wants 200.
func (s *swarm) do(ctx context.Context, patience time.Duration, url string, body []byte, set func(*http.Request)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	set(req)
	s.tally.add("requests", 1)
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return shortError(fmt.Sprintf("status %d", resp.StatusCode))
	}
	return nil
}
