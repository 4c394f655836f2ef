//go:build !linux

package pgrun

import "syscall"

// tie does nothing: only Linux ends a child with its parent.
func tie(*syscall.SysProcAttr) {}
