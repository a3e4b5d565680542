package wechat

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// What an *APIError is, to be asked with errors.Is. The codes are those of
// developers.weixin.qq.com/doc/offiaccount/Getting_Started/Global_Return_Code.html
var (
	ErrBusy       = errors.New("WeChat is busy")                             // -1
	ErrToken      = errors.New("access token refused")                       // 40001, 40014, 42001
	ErrAppID      = errors.New("wrong appid")                                // 40013
	ErrSecret     = errors.New("wrong app secret")                           // 40125; 40001 from the token endpoint
	ErrAddress    = errors.New("address is not on the account's allow-list") // 40164, the message names the address
	ErrQuota      = errors.New("quota of the day is spent")                  // 45009, until 00:00 Asia/Shanghai
	ErrRate       = errors.New("quota of the minute is spent")               // 45011
	ErrPermission = errors.New("account has no permission for this call")    // 48001, not a verified service account
	ErrBanned     = errors.New("account is banned from this call")           // 48004
	// ErrUnreachable: not a follower (40003, 43004), not in time after something that the
	// user did (45015), too many messages since (45047), or the user wants none (43019, 48002).
	ErrUnreachable = errors.New("user can't be written to now")
)

// APIError is what WeChat answered instead of a result. The HTTP status is 200
// for all of them; the number decides.
type APIError struct {
	Code     int    // errcode
	Message  string // errmsg with its rid, which WeChat's support asks for
	Endpoint string // path of the call, without host and query
}

func (e *APIError) Error() string {
	return fmt.Sprintf("%s: errcode %d: %s", e.Endpoint, e.Code, e.Message)
}

// Is matches the sentinel of the code.
func (e *APIError) Is(target error) bool {
	kind := e.kind()
	return kind != nil && kind == target
}

func (e *APIError) kind() error {
	// The token endpoint takes no token: there the same code means the secret.
	if e.Code == 40001 && e.Endpoint == endpointToken {
		return ErrSecret
	}
	return kinds()[e.Code]
}

func kinds() map[int]error {
	return map[int]error{
		-1:    ErrBusy,
		40001: ErrToken,
		40013: ErrAppID,
		40014: ErrToken,
		40125: ErrSecret,
		40164: ErrAddress,
		42001: ErrToken,
		45009: ErrQuota,
		45011: ErrRate,
		48001: ErrPermission,
		48004: ErrBanned,

		40003: ErrUnreachable,
		43004: ErrUnreachable,
		43019: ErrUnreachable,
		45015: ErrUnreachable,
		45047: ErrUnreachable,
		48002: ErrUnreachable,
	}
}

// Known tells whether the code is one of Codes.
func (e *APIError) Known() bool { return e.kind() != nil }

// Codes are the errcodes that mean something here, for whoever counts calls.
func Codes() []int { return slices.Sorted(maps.Keys(kinds())) }
