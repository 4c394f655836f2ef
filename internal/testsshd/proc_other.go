//go:build !linux

package testsshd

import "syscall"

func dieWithUs() *syscall.SysProcAttr { return nil }
