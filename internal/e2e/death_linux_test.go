package e2e

import "syscall"

// dieWithParent keeps a test run that was killed from leaving programs behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
