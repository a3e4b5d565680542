package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"scanlogin/internal/login"
	"scanlogin/internal/postgres/pgstore"
	"scanlogin/internal/status"
)

// Status keeps what instances say of themselves, and reports how all stands. It implements
// status.Store.
type Status struct {
	DB *DB
}

// Beat notes how an instance stands. One that was forgotten says it again in a moment.
func (s Status) Beat(ctx context.Context, b status.Beat) error {
	troubles, err := json.Marshal(b.Troubles)
	if err != nil {
		return fmt.Errorf("writing down troubles: %w", err)
	}
	return s.DB.relaxed.Beat(ctx, pgstore.BeatParams{
		ID: b.ID, Name: b.Name, Version: b.Version, Streams: int32(b.Streams), Draining: b.Draining,
		CallbackAge: b.CallbackAge.Seconds(), Troubles: troubles,
	})
}

// Gone forgets an instance.
func (s Status) Gone(ctx context.Context, id login.ID) error {
	return s.DB.relaxed.RemoveInstance(ctx, id)
}

// Report reads how all stands. It reads the whole pool, so it isn't for every request.
func (s Status) Report(ctx context.Context) (status.Report, error) {
	var r status.Report
	instances, err := s.DB.Queries.Instances(ctx)
	if err != nil {
		return r, fmt.Errorf("reading the instances: %w", err)
	}
	for _, i := range instances {
		one, err := newStatus(i)
		if err != nil {
			return r, err
		}
		r.Instances = append(r.Instances, one)
	}
	pool, err := s.DB.Queries.PoolStatus(ctx)
	if err != nil {
		return r, fmt.Errorf("reading the pool: %w", err)
	}
	r.Pool = status.Pool{Size: int(pool.Size), Held: int(pool.Held), Ready: int(pool.Ready)}
	accounts, err := s.DB.Queries.WeChatStatus(ctx)
	if err != nil {
		return r, fmt.Errorf("reading the Official Accounts: %w", err)
	}
	for _, a := range accounts {
		r.Accounts = append(r.Accounts, status.Account{
			AppID: a.Appid, CodesToday: int(a.MadeToday),
			NoCodesFor: status.Seconds(a.NoCodesFor), TokenEndsIn: status.Seconds(a.TokenFor),
		})
	}
	return r, nil
}

func newStatus(r pgstore.InstancesRow) (status.Instance, error) {
	i := status.Instance{
		Name: r.Name, Version: r.Version, State: status.Up, Streams: int(r.Streams),
		UpFor: status.Seconds(r.UpFor), Unseen: status.Seconds(r.Unseen),
	}
	switch {
	case r.Unseen > status.SilentAfter.Seconds():
		i.State = status.Silent
	case r.Draining:
		i.State = status.Stopping
	}
	if r.CallbackAge >= 0 {
		age := status.Seconds(r.CallbackAge)
		i.LastCallback = &age
	}
	if err := json.Unmarshal(r.Troubles, &i.Troubles); err != nil {
		return i, fmt.Errorf("reading the troubles of %s: %w", r.Name, err)
	}
	return i, nil
}
