package status_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"scanlogin/internal/status"
)

func TestTroublesAreTheLastWarningsAndErrors(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var troubles status.Troubles
	logger := troubles.Watch(slog.New(slog.NewTextHandler(&out, nil))).With("instance", 1).WithGroup("g")
	logger.Info("all is well")
	for n := range 20 {
		logger.Warn("warning " + strconv.Itoa(n%10)) //nolint:sloglint // ten that differ
	}
	logger.Error("broken", "err", errors.New("why"))
	last := troubles.Last()
	if len(last) != 8 || last[0].Message != "broken" || last[0].Error != "why" || last[0].Level != "ERROR" || last[0].Times != 1 {
		t.Fatalf("%+v", last)
	}
	if last[1].Message != "warning 9" || last[1].Times != 1 || last[1].At.IsZero() {
		t.Errorf("%+v", last[1])
	}
	logger.Error("broken", "err", errors.New("another reason"))
	if again := troubles.Last()[0]; again.Times != 2 || again.Error != "another reason" {
		t.Errorf("said again: %+v", again)
	}
	if n := strings.Count(out.String(), "\n"); n != 23 || !strings.Contains(out.String(), "instance=1") {
		t.Errorf("%d lines were written:\n%s", n, out.String())
	}
}
