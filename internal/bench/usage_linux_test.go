package main

import (
	"os"
	"testing"
)

func TestUsage(t *testing.T) {
	u, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.rss < 1<<20 || u.files < 3 {
		t.Errorf("%+v", u)
	}
	twice, err := usageOf(os.Getpid(), os.Getpid())
	if err != nil || twice.files < u.files*3/2 {
		t.Errorf("%+v, %v", twice, err)
	}
}
