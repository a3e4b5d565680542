//go:build !linux

package devpg

import "syscall"

// dieWithParent does nothing: only Linux has a parent-death signal.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// endHeirs can't find them: they end by themselves.
func endHeirs(string) {}
