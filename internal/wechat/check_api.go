package wechat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	endpointAddresses = "/cgi-bin/getcallbackip"

	checkTTL = time.Minute
	// No service has so many scenes: a scan of the checker's code resolves nothing.
	checkScene = math.MaxInt32
	maxSkew    = time.Minute
)

// checkAPI calls WeChat: can it be reached, what time is it there, does it give
// us a token, a QR code, and the addresses that its pushes come from?
func (c *Client) checkAPI(ctx context.Context, now func() time.Time) []Finding {
	clock, reached := c.checkClock(ctx, now)
	if !reached {
		return []Finding{clock}
	}
	if _, err := c.tokens().Token(ctx); err != nil {
		return []Finding{clock, c.explain("access token", err)}
	}
	findings := []Finding{clock, good("access token", "An access token was given to this machine.")}
	findings = append(findings, c.checkQRCode(ctx)...)
	return append(findings, c.checkAddresses(ctx))
}

// checkClock asks without a token, which WeChat answers too.
func (c *Client) checkClock(ctx context.Context, now func() time.Time) (f Finding, reached bool) {
	const name = "clock"
	there, err := c.date(ctx)
	if err != nil {
		return bad("WeChat's API", "WECHAT_API_URL doesn't answer (%s): let this machine reach %s through firewall and proxy.",
			inWords(err), c.host()), false
	}
	if there.IsZero() {
		return bad(name, "WECHAT_API_URL answers without a Date, unlike WeChat: set it to %s or ask whoever runs what answers there.", DefaultBaseURL), true
	}
	skew := now().Sub(there).Round(time.Second)
	if skew.Abs() > maxSkew {
		side := "ahead of"
		if skew < 0 {
			side = "behind"
		}
		return bad(name, "This machine's clock is %v %s WeChat's, so callbacks may be refused as stale: turn on its time synchronisation (timedatectl set-ntp true).", skew.Abs(), side), true
	}
	return good(name, "This machine's clock and WeChat's are no more than a minute apart."), true
}

// date is zero where the answer has none.
func (c *Client) date(ctx context.Context) (time.Time, error) {
	req, err := c.request(ctx, endpointAddresses, "", nil)
	if err != nil {
		return time.Time{}, errors.New("it is no URL")
	}
	resp, err := sameServer(c.HTTP).Do(req)
	if err != nil {
		return time.Time{}, c.hide(err, "")
	}
	defer resp.Body.Close()
	there, _ := http.ParseTime(resp.Header.Get("Date")) // zero on an error
	return there, nil
}

func (c *Client) host() string {
	_, rest, _ := strings.Cut(cmp.Or(c.BaseURL, DefaultBaseURL), "://")
	host, _, _ := strings.Cut(rest, "/")
	return host[strings.LastIndexByte(host, '@')+1:]
}

func (c *Client) checkQRCode(ctx context.Context) []Finding {
	if _, err := c.CreateQRCode(ctx, checkScene, checkTTL); err != nil {
		return []Finding{c.explain("QR code", err)}
	}
	return []Finding{
		good("QR code", "The account may make QR codes with a scene."),
		good("quota", "The day's quota of QR codes isn't spent."),
	}
}

// checkAddresses is for information: nothing depends on the answer.
func (c *Client) checkAddresses(ctx context.Context) Finding {
	const name = "WeChat's addresses"
	var answer struct {
		List []string `json:"ip_list"`
	}
	err := c.withToken(ctx, func(token string) error { return c.call(ctx, endpointAddresses, token, nil, &answer) })
	if err != nil || len(answer.List) == 0 {
		return good(name, "WeChat didn't say from which addresses it calls, which only matters to a firewall that filters by address.")
	}
	return good(name, "WeChat calls from these addresses (%d in all, the first is %s), in case a firewall filters by address.",
		len(answer.List), shorten(answer.List[0]))
}

// explain says in a sentence what an error of the API means for the owner.
func (c *Client) explain(name string, err error) Finding {
	switch {
	case errors.Is(err, ErrAppID):
		return bad(name, "WeChat knows no account with this AppID (%s): set WECHAT_APP_ID to what stands under %s.", codeOf(err), consoleAppID)
	case errors.Is(err, ErrSecret):
		return bad(name, "The AppSecret isn't this account's (%s): click 重置 under %s and set WECHAT_APP_SECRET to the new one, on every system that uses it.", codeOf(err), consoleSecret)
	case errors.Is(err, ErrAddress):
		return bad(name, "WeChat refuses calls from %s (%s): add that address under %s and wait a few minutes.", addressIn(err), codeOf(err), consoleAddresses)
	case errors.Is(err, ErrToken):
		return bad(name, "WeChat refuses the access token (%s), because another system has replaced it: let every system fetch it by stable_token, or set WECHAT_TOKEN_URL to the one that does, and click 重置 under %s if an unknown one has the AppSecret.", codeOf(err), consoleSecret)
	case errors.Is(err, ErrPermission):
		return bad(name, "The account may not do this (%s), because only a verified service account (认证服务号) makes QR codes with a scene: look for 生成带参数的二维码 under %s and verify the account under 设置与开发 → 公众号设置 → 微信认证.", codeOf(err), consoleRights)
	case errors.Is(err, ErrQuota):
		return bad("quota", "The day's quota is spent (%s) until 00:00 in Shanghai: see under %s which call has used it up, and wait, or click 清零 there.", codeOf(err), consoleRights)
	case errors.Is(err, ErrRate):
		return bad("quota", "The minute's quota is spent (%s): run this again in a minute, and see under %s which call uses it up if that goes on.", codeOf(err), consoleRights)
	case errors.Is(err, ErrBanned):
		return bad(name, "WeChat has banned the account from this call (%s): read why under 通知中心 in the console, and appeal there.", codeOf(err))
	case errors.Is(err, ErrBusy):
		return bad(name, "WeChat is busy (%s): run this again in a minute.", codeOf(err))
	}
	if apiErr, ok := errors.AsType[*APIError](err); ok {
		return bad(name, "WeChat says %s (%s): look the number up under 全局返回码 on developers.weixin.qq.com.", inWords(errors.New(apiErr.Message)), codeOf(err))
	}
	return bad(name, "There was no usable answer (%s): let this machine reach %s, and WECHAT_TOKEN_URL where it is set, then run this again.", inWords(err), c.host())
}

func codeOf(err error) string {
	if apiErr, ok := errors.AsType[*APIError](err); ok {
		return fmt.Sprintf("errcode %d", apiErr.Code)
	}
	return "no errcode"
}

// addressIn finds our address in the message of 40164: "invalid ip 192.0.2.7
// ipv6 ::ffff:192.0.2.7, not in whitelist rid: …".
func addressIn(err error) string {
	if apiErr, ok := errors.AsType[*APIError](err); ok {
		for word := range strings.FieldsSeq(apiErr.Message) {
			if addr, err := netip.ParseAddr(strings.Trim(word, ",;()[]")); err == nil {
				return addr.Unmap().String()
			}
		}
	}
	return "this machine's address"
}
