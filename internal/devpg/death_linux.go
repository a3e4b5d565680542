package devpg

import "syscall"

// dieWithParent has the kernel send sig to the child when the thread that
// started it ends, by whatever means.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }
