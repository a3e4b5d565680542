package proc

import "syscall"

// dieWithParent keeps a run that was killed from leaving programs behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
