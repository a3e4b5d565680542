//go:build !linux

package postgrestest

import "syscall"

// dieWithParent needs Linux: elsewhere a SIGKILL of the test leaves its children behind.
func dieWithParent(*syscall.SysProcAttr) {}
