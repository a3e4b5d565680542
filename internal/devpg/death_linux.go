package devpg

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithParent has the kernel send sig to the child when the thread that
// started it ends, by whatever means.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// endHeirs kills the processes of a server that is gone: they work in its data.
func endHeirs(data string) {
	place, err := os.Stat(data)
	if err != nil {
		return
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		name, _ := os.ReadFile(process + "/comm")
		at, err := os.Stat(process + "/cwd") // fails for those of others
		if err != nil || string(name) != "postgres\n" || !os.SameFile(place, at) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}
