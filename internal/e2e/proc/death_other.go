//go:build !linux

package proc

import "syscall"

// dieWithParent needs a kernel that can.
func dieWithParent() *syscall.SysProcAttr { return nil }
