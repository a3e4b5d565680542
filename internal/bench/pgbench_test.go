package main

import "testing"

func TestWhatPgbenchPrints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		out  string
		want work
		fail bool
	}{
		"13": {out: "number of clients: 1\nnumber of transactions actually processed: 2900\nlatency average = 0.345 ms\n" +
			"tps = 2899.1 (including connections establishing)\ntps = 2910.5 (excluding connections establishing)\n", want: work{2900, 2910.5}},
		"15": {out: "number of transactions actually processed: 4100\nnumber of failed transactions: 0 (0.000%)\nlatency average = 0.244 ms\n" +
			"initial connection time = 1.5 ms\ntps = 4101.25 (without initial connection time)\n", want: work{4100, 4101.25}},
		"a client that gave up": {out: "pgbench: error: client 3 script 0 aborted in command 0 query 0: ERROR:  no\n" +
			"number of transactions actually processed: 41\ntps = 41.0 (without initial connection time)\n", fail: true},
		"nothing": {fail: true},
	} {
		got, err := parsePgbench(c.out)
		if got != c.want || (err != nil) != c.fail {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
