package main

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"
)

func environment(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestBadUsageIsOneClearLine(t *testing.T) {
	const url = "-url=http://127.0.0.1:1"
	for want, args := range map[string][]string{
		"no -url":                  {"-streams", "1"},
		"nothing to do":            {url},
		"WECHAT_TOKEN":             {url, "-logins", "1"},
		"-churn has no -streams":   {url, "-logins", "1", "-churn", "1"},
		"-scans has no -streams":   {url, "-logins", "1", "-scans", "1"},
		"-scans need WECHAT_TOKEN": {url, "-streams", "1", "-scans", "1"},
		"is no rate":               {url, "-logins", "-1/s"},
		"is no objective":          {url, "-streams", "1", "-objective", "fast"},
		"takes flags only":         {url, "-streams", "1", "now"},
		"not defined":              {url, "-steams", "1"},
		"-ramp of 0":               {url, "-streams", "1", "-ramp", "0"},
		"-for has to be more":      {url, "-streams", "1", "-for", "0s"},
		"-people and -processes":   {url, "-streams", "1", "-processes", "0"},
		"WECHAT_ENCODING_AES_KEY":  {url, "-streams", "1", "-think", "1ms"},
	} {
		env := map[string]string{}
		if want == "WECHAT_ENCODING_AES_KEY" {
			env[want] = "not-a-key-not-to-be-repeated"
		}
		var out strings.Builder
		p := program{environment(env), nil, io.Discard, &out}
		if code := p.main(t.Context(), args); code != 2 || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit %d, %q", args, code, out.String())
		}
		if strings.Contains(out.String(), "repeated") {
			t.Errorf("a secret in %q", out.String())
		}
	}
}

func TestHelpSaysWhatBeyondLoopbackDoes(t *testing.T) {
	var out strings.Builder
	p := program{environment(nil), nil, &out, io.Discard}
	if code := p.main(t.Context(), []string{"-help"}); code != 0 || !strings.Contains(out.String(), "forged scans to a machine that may not be yours") {
		t.Errorf("exit %d, %s", code, out.String())
	}
}

func TestSharesAddUp(t *testing.T) {
	whole := plan{Streams: 20_003, Ramp: 500, Logins: 70, Scans: 9, Churn: 1, Processes: 4}
	var sum plan
	for k := range whole.Processes {
		s := whole.share(k)
		sum.Streams += s.Streams
		sum.Ramp, sum.Logins, sum.Scans, sum.Churn = sum.Ramp+s.Ramp, sum.Logins+s.Logins, sum.Scans+s.Scans, sum.Churn+s.Churn
	}
	if sum.Streams != whole.Streams || math.Abs(sum.Ramp-500)+math.Abs(sum.Logins-70)+math.Abs(sum.Scans-9)+math.Abs(sum.Churn-1) > 1e-9 {
		t.Errorf("%+v", sum)
	}
}

func TestStreamsThatDoNotFitAreRefused(t *testing.T) {
	p := plan{Streams: 30_000, Logins: 50, Think: seconds(time.Second), Processes: 1, URLs: []string{"one"}}
	err := p.fitsIn(20_000)
	if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), "try -processes 2") {
		t.Fatal(err)
	}
	p.Processes = 2
	if err := p.fitsIn(20_000); err != nil {
		t.Error(err)
	}
}
