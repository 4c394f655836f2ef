package main

import "golang.org/x/sys/unix"

// forget removes the System V shared memory that a killed server leaves behind.
// The next start in its folder would, but there may be none.
func forget(data string) {
	_, id := postmaster(data)
	if id == 0 {
		return
	}
	var is unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &is); err == nil && is.Nattch == 0 { // nobody runs on it
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // a few bytes are left otherwise
	}
}
