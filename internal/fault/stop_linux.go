//go:build fault

package fault

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// stop stops the process before the caller runs on: a signal to the process as a
// whole goes to any thread, which on a busy machine takes its time.
func stop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
