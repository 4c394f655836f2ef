//go:build !linux

package testpg

import "syscall"

// attributes ask for nothing: only Linux ends a child with its parent.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// relative is a process below another one; only Linux lists them here.
type relative struct{}

func descendants(int) []relative { return nil }

func (relative) alive() bool { return false }

func (relative) kill() {}
