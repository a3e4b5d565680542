package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a program has used until now. It reads Linux' /proc.
type usage struct {
	rss   int64         // bytes resident
	cpu   time.Duration // of all its threads, in the kernel too; in steps of 10 ms
	files int           // open
}

// usageOf adds up programs: nginx is several.
func usageOf(pids ...int) (usage, error) {
	var u usage
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		kb, err := strconv.ParseInt(strings.TrimSuffix(fieldOf(dir+"/status", "VmRSS"), " kB"), 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("process %d: %w", pid, err)
		}
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			return usage{}, err
		}
		// The name in parentheses may hold anything; utime and stime are the 14th and 15th.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, f := range fields[11:13] {
			ticks, err := strconv.ParseInt(f, 10, 64)
			if err != nil {
				return usage{}, fmt.Errorf("process %d: %w", pid, err)
			}
			u.cpu += time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux
		}
		files, err := os.ReadDir(dir + "/fd")
		if err != nil {
			return usage{}, err
		}
		u.rss, u.files = u.rss+kb<<10, u.files+len(files)
	}
	return u, nil
}

// goroutinesOf asks the instance with this OPS_ADDR.
func goroutinesOf(ctx context.Context, ops string) (int, error) {
	body, err := askOps(ctx, ops, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscanf(body, "goroutine profile: total %d", &n)
	return n, err
}

// metricOf is one of the metrics of the instance with this OPS_ADDR, one without labels.
func metricOf(ctx context.Context, ops, name string) (float64, error) {
	body, err := askOps(ctx, ops, "/metrics")
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(l, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(v), 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", ops, name)
}

func askOps(ctx context.Context, ops, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+path, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
