package testsshd

import "syscall"

// dieWithUs ends the listener when the test's process is killed. Ctrl-C reaches
// it only through that process.
func dieWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
