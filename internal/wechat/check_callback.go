package wechat

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// checkCallback calls the service as WeChat does, by its public address.
func (cfg CheckConfig) checkCallback(ctx context.Context) []Finding {
	reached := cfg.checkEcho(ctx)
	if !reached.OK {
		return []Finding{reached}
	}
	return []Finding{reached, cfg.checkForged(ctx), cfg.checkMode(ctx)}
}

// probeAnswer is what the service answers to a probe.
type probeAnswer struct {
	status int
	body   string
}

// checkEcho is what WeChat does when the URL is saved in its console.
func (cfg CheckConfig) checkEcho(ctx context.Context) Finding {
	const name = "callback URL"
	echo := rand.Text()
	q := signedNow(cfg.Token, cfg.now(), nil)
	q.Set("echostr", echo)
	got, err := cfg.probe(ctx, q, nil)
	switch {
	case err != nil:
		return bad(name, "%s doesn't answer from here (%s): check its DNS entry, certificate and proxy, and that the service runs behind it.", cfg.callbackURL(), inWords(err))
	case got.status == http.StatusForbidden:
		return bad(name, "%s refuses a probe that is signed with WECHAT_TOKEN: restart the service with the same token as here, and enter it under %s → 令牌(Token).", cfg.callbackURL(), consoleServer)
	case got.status >= 300 && got.status < 400:
		return bad(name, "%s answers with a redirect, which WeChat doesn't follow: set PUBLIC_URL and %s → 服务器地址(URL) to where it leads.", cfg.callbackURL(), consoleServer)
	case got.status != http.StatusOK || got.body != echo:
		return bad(name, "%s answers a probe with status %d and not with its echostr: let the proxy pass this path to the service as it is, without a login or a page of its own.", cfg.callbackURL(), got.status)
	}
	return good(name, "%s answers as WeChat expects it: enter it under %s → 服务器地址(URL) and click 提交, then 启用.", cfg.callbackURL(), consoleServer)
}

// checkForged makes sure that it is our service that answered, and not
// something that says yes to all.
func (cfg CheckConfig) checkForged(ctx context.Context) Finding {
	const name = "signature"
	q := signedNow(rand.Text(), cfg.now(), nil)
	q.Set("echostr", rand.Text())
	got, err := cfg.probe(ctx, q, nil)
	switch {
	case err != nil:
		return bad(name, "%s didn't answer the second probe (%s): see whether the proxy before it limits requests.", cfg.callbackURL(), inWords(err))
	case got.status != http.StatusForbidden:
		return bad(name, "%s answers a probe with a wrong signature with status %d, not 403: let the proxy pass this path to the service, for what answers there now would take forged callbacks.", cfg.callbackURL(), got.status)
	}
	return good(name, "A probe with a wrong signature is refused.")
}

// checkMode posts an event that nobody handles, in the mode that is configured.
func (cfg CheckConfig) checkMode(ctx context.Context) Finding {
	const name = "mode"
	mode, console := "plain mode", "明文模式"
	if cfg.EncodingAESKey != "" {
		mode, console = "safe mode", "安全模式"
	}
	body, err := cfg.probeEvent()
	if err != nil {
		return bad(name, "No probe could be encrypted (%s): copy the key from %s → 消息加解密密钥(EncodingAESKey).", inWords(err), consoleServer)
	}
	got, err := cfg.probe(ctx, signedNow(cfg.Token, cfg.now(), body), body)
	switch {
	case err != nil:
		return bad(name, "%s doesn't answer a POST (%s): let the proxy pass it to the service.", cfg.callbackURL(), inWords(err))
	case got.status == http.StatusForbidden || got.status == http.StatusBadRequest: // another mode, another key
		return bad(name, "The service refuses a message in %s: restart it with the same WECHAT_ENCODING_AES_KEY and WECHAT_APP_ID as here, and choose %s under %s → 消息加解密方式.", mode, console, consoleServer)
	case got.status != http.StatusOK || got.body != success:
		return bad(name, "%s answers a message with status %d and not with success: let the proxy pass POST to the service as it is, and see why in the service's log.", cfg.callbackURL(), got.status)
	}
	return good(name, "The service takes messages in %s: %s has to be chosen under %s → 消息加解密方式.", mode, console, consoleServer)
}

// probeEvent is a push without an account: which one is ours, only WeChat says.
func (cfg CheckConfig) probeEvent() ([]byte, error) {
	plain := fmt.Appendf(nil, "<xml><ToUserName>scanlogin</ToUserName><FromUserName>%s</FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType>event</MsgType><Event>%s</Event></xml>", rand.Text(), cfg.now().Unix(), probeEvent)
	if cfg.EncodingAESKey == "" {
		return plain, nil
	}
	c, err := NewCipher(cfg.EncodingAESKey, cfg.appID)
	if err != nil {
		return nil, err
	}
	sealed, err := c.Encrypt(plain)
	return fmt.Appendf(nil, "<xml><ToUserName>scanlogin</ToUserName><Encrypt>%s</Encrypt></xml>", sealed), err
}

// probe gets the callback URL, or posts a body to it.
func (cfg CheckConfig) probe(ctx context.Context, q url.Values, body []byte) (probeAnswer, error) {
	target := cfg.callbackURL()
	target.RawQuery = q.Encode()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return probeAnswer{}, errors.New("it is no URL")
	}
	req.Header.Set("Content-Type", "text/xml")
	resp, err := sameServer(cfg.HTTP).Do(req)
	if err != nil {
		return probeAnswer{}, withoutQuery(err, target)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return probeAnswer{}, withoutQuery(err, target)
	}
	return probeAnswer{resp.StatusCode, string(text)}, nil
}
