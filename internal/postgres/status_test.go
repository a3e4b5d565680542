package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scanlogin/internal/postgres"
	"scanlogin/internal/status"
)

func TestStatusIsWhatInstancesSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.ok(w.db.AddWeChatAccount(t.Context(), appID))
	w.show()
	w.timeOut(w.show().Ref)
	s := postgres.Status{DB: w.db}
	trouble := status.Trouble{At: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), Level: "WARN", Message: "m", Error: "e", Times: 2}
	beat := status.Beat{ID: newID(), Name: "a", Version: "v1", CallbackAge: status.NoCallback}
	w.ok(s.Beat(t.Context(), beat))
	beat.Streams, beat.Draining, beat.CallbackAge, beat.Troubles = 7, true, 90*time.Second, []status.Trouble{trouble}
	w.ok(s.Beat(t.Context(), beat))
	w.ok(s.Beat(t.Context(), status.Beat{ID: newID(), Name: "b", Version: "v2", CallbackAge: status.NoCallback}))
	w.exec("UPDATE scanlogin.instance SET seen_at = now() - interval '21 s', started_at = now() - interval '1 h' WHERE name = 'b'")

	got, err := s.Report(t.Context())
	w.ok(err)
	age := status.Seconds(90)
	want := status.Report{
		Instances: []status.Instance{
			{Name: "a", Version: "v1", State: status.Stopping, Streams: 7, LastCallback: &age, Troubles: []status.Trouble{trouble}},
			{Name: "b", Version: "v2", State: status.Silent, UpFor: 3600, Unseen: 21},
		},
		Pool:     status.Pool{Size: 3, Held: 1},
		Accounts: []status.Account{{AppID: appID}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Alive() != 1 || got.Streams() != 7 {
		t.Errorf("%d alive with %d streams", got.Alive(), got.Streams())
	}
	w.ok(s.Gone(t.Context(), beat.ID))
	got, err = s.Report(t.Context())
	w.ok(err)
	if len(got.Instances) != 1 || got.Instances[0].Name != "b" {
		t.Errorf("after one has gone: %+v", got.Instances)
	}
}
