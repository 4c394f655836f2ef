package testproftpd

import "syscall"

const terminate = syscall.SIGTERM

// dieWithUs ends the server when the test's process is killed.
func dieWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
