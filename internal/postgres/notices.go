package postgres

import (
	"context"
	"time"

	"scanlogin/internal/account"
	"scanlogin/internal/audit"
	"scanlogin/internal/postgres/pgstore"
)

// note leaves word for the owner of an account, in the transaction of what it is about. What
// was done in a shell comes from nowhere.
func note(ctx context.Context, q *pgstore.Queries, userID int64, kind account.NoticeKind) error {
	from := audit.From(ctx)
	if !from.Addr.IsValid() {
		from = audit.Where{}
	}
	return q.AddNotice(ctx, pgstore.AddNoticeParams{AccountID: userID, Kind: string(kind), Browser: from.Browser, Place: from.Place})
}

// Notices returns what the user is to be told and no phone was, nor is about to be.
func (s Accounts) Notices(ctx context.Context, userID int64, patience time.Duration) ([]account.Notice, error) {
	rows, err := s.DB.Queries.NoticesOf(ctx, userID, patience)
	if err != nil {
		return nil, err
	}
	notices := make([]account.Notice, len(rows))
	for i, r := range rows {
		notices[i] = account.Notice{ID: r.ID, Kind: account.NoticeKind(r.Kind), At: r.At, Origin: account.Origin{Browser: r.Browser, Place: r.Place}}
	}
	return notices, nil
}

// SeenNotices removes those of the user, and returns how many there were.
func (s Accounts) SeenNotices(ctx context.Context, userID int64, ids []int64) (int, error) {
	n, err := s.DB.Queries.SeenNotices(ctx, userID, ids)
	return int(n), err
}

// Notices keeps what phones are to be told. It implements account.NoticeStore.
type Notices struct {
	DB *DB
}

// ClaimNotices takes the turn to tell some, which other instances leave alone meanwhile.
func (n Notices) ClaimNotices(ctx context.Context, most int, patience time.Duration) ([]account.Untold, error) {
	rows, err := n.DB.relaxed.ClaimNotices(ctx, patience, int32(most))
	if err != nil {
		return nil, err
	}
	untold := make([]account.Untold, len(rows))
	for i, r := range rows {
		untold[i] = account.Untold{
			Notice:  account.Notice{ID: r.ID, Kind: account.NoticeKind(r.Kind), At: r.At, Origin: account.Origin{Browser: r.Browser, Place: r.Place}},
			OpenIDs: r.Openids, Turn: r.Turn,
		}
	}
	return untold, nil
}

// EndNotice removes one that was told. Where a crash of PostgreSQL forgets it, it is told again.
func (n Notices) EndNotice(ctx context.Context, u account.Untold) error {
	return n.DB.relaxed.EndNotice(ctx, u.ID, u.Turn)
}

// LeaveNotice leaves one to the user centre.
func (n Notices) LeaveNotice(ctx context.Context, u account.Untold) error {
	return n.DB.relaxed.LeaveNotice(ctx, u.ID, u.Turn)
}
