//go:build !linux

package testproftpd

import "syscall"

const terminate = syscall.SIGTERM

func dieWithUs() *syscall.SysProcAttr { return nil }
