//go:build !linux

package main

import "syscall"

// dieWithParent needs a kernel that can.
func dieWithParent() *syscall.SysProcAttr { return nil }
