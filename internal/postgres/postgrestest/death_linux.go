package postgrestest

import "syscall"

// dieWithParent has the kernel end a child with the thread that started it.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
