package main

import (
	"errors"
	"testing"
)

func TestPgbenchIsUnderstood(t *testing.T) {
	for out, want := range map[string]float64{
		"latency average = 1.5 ms\ninitial connection time = 21.3 ms\ntps = 10843.117302 (without initial connection time)\n":                            10843.117302,
		"tps = 700.1 (including connections establishing)\ntps = 723.5 (excluding connections establishing)\n":                                           723.5, // 13
		"number of failed transactions: 0 (0.000%)\ninitial connection time = 21.3 ms\ntps = 3.5 (without initial connection time)\nstatement latencies": 3.5,
	} {
		if got, err := transactionsASecond([]byte(out)); err != nil || got != want {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	if _, err := transactionsASecond([]byte("pgbench: error: no such table")); !errors.Is(err, errNoRate) {
		t.Error(err)
	}
}
