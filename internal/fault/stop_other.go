//go:build fault && !linux

package fault

import (
	"os"
	"syscall"
	"time"
)

func stop() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	time.Sleep(50 * time.Millisecond) // the signal takes effect a moment later
}
