package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is what the figures are true of.
type machine struct {
	Processor string  `json:"processor"`
	Cores     int     `json:"cores"`
	MemoryGiB float64 `json:"memory_gib"`
	Kernel    string  `json:"kernel"`
	Go        string  `json:"go"`
	Day       string  `json:"day"`
}

func thisMachine() machine {
	m := machine{Processor: "?", Cores: runtime.NumCPU(), Go: strings.TrimPrefix(runtime.Version(), "go"), Day: time.Now().Format(time.DateOnly)}
	if v := fieldOf("/proc/cpuinfo", "model name"); v != "" {
		m.Processor = v
	}
	if kb, err := strconv.ParseFloat(strings.TrimSuffix(fieldOf("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		m.MemoryGiB = float64(int(kb/(1<<20)*10)) / 10
	}
	if out, err := exec.Command("uname", "-sr").Output(); err == nil { //nolint:noctx // it ends at once
		m.Kernel = strings.TrimSpace(string(out))
	}
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("%d cores (%s), %.0f GiB, %s, Go %s, %s", m.Cores, m.Processor, m.MemoryGiB, m.Kernel, m.Go, m.Day)
}

// fieldOf is what follows "name :" in a file of such lines; empty where it isn't there.
func fieldOf(path, name string) string {
	text, _ := os.ReadFile(path) // a file that isn't there has no fields
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
