package wechat

import (
	"testing"
	"time"
)

func TestResets(t *testing.T) {
	for _, tc := range []struct{ now, quota, rate string }{
		{"2024-04-25T09:24:19Z", "2024-04-25T16:00:00Z", "2024-04-25T09:25:00Z"},
		{"2024-04-25T15:59:59.999999999Z", "2024-04-25T16:00:00Z", "2024-04-25T16:00:00Z"},
		{"2024-04-25T16:00:00Z", "2024-04-26T16:00:00Z", "2024-04-25T16:01:00Z"},
		{"2024-12-31T23:59:30+08:00", "2025-01-01T00:00:00+08:00", "2025-01-01T00:00:00+08:00"},
		{"2024-02-28T23:00:00-05:00", "2024-03-01T00:00:00+08:00", "2024-02-28T23:01:00-05:00"},
		{"2024-03-10T01:59:59-05:00", "2024-03-11T00:00:00+08:00", "2024-03-10T02:00:00-05:00"},
	} {
		now := mustTime(t, tc.now)
		if got := QuotaResets(now); !got.Equal(mustTime(t, tc.quota)) {
			t.Errorf("QuotaResets(%s) = %v, want %s", tc.now, got, tc.quota)
		}
		if got := RateResets(now); !got.Equal(mustTime(t, tc.rate)) {
			t.Errorf("RateResets(%s) = %v, want %s", tc.now, got, tc.rate)
		}
	}
}

func mustTime(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
