package testsshd

import "syscall"

// dieWithUs ends the listener when the test's process is killed.
func dieWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
