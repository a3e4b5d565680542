//go:build !linux

package e2e

import "syscall"

// dieWithParent needs a kernel that can.
func dieWithParent() *syscall.SysProcAttr { return nil }
