package account

import (
	"context"
	"fmt"
	"time"
)

// NoticeKind says what has happened to an account.
type NoticeKind string

// What its owner is told of, whoever did it.
const (
	NoticeBound           NoticeKind = "bound"            // a WeChat user was tied to it
	NoticeUnbound         NoticeKind = "unbound"          // its ties were removed
	NoticePasswordChanged NoticeKind = "password_changed" // it has another password
)

// Origin is where a request came from, as far as that is known; empty: it isn't, or it was a
// command in a shell.
type Origin struct {
	Browser string // its User-Agent
	Place   string // roughly where it is
}

// Notice is something that the owner of an account is to be told: by WeChat where it lets us,
// else in the user centre, until they have read it there.
type Notice struct {
	ID   int64
	Kind NoticeKind // one that isn't known here is a newer version's
	At   time.Time
	Origin
}

// noticePatience is for how long a notice is left to the phone before the user centre shows
// it all the same.
const noticePatience = 5 * time.Second

// Notices returns what the user is to be told and no phone was, the newest first.
func (s *Service) Notices(ctx context.Context, userID int64) ([]Notice, error) {
	notices, err := s.Store.Notices(ctx, userID, noticePatience)
	if err != nil {
		return nil, fmt.Errorf("account: list what user %d is to be told: %w", userID, err)
	}
	return notices, nil
}

// SeenNotices removes what the user has read. It returns how many that were; those of others,
// and what isn't there any more, count for nothing.
func (s *Service) SeenNotices(ctx context.Context, userID int64, ids []int64) (seen int, err error) {
	seen, err = s.Store.SeenNotices(ctx, userID, ids)
	if err != nil {
		return 0, fmt.Errorf("account: remove what user %d has read: %w", userID, err)
	}
	return seen, nil
}
