package agent

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is inherited from a server's process passes to no agent, on kernels old
// and new.
func TestKeepFromChildren(t *testing.T) {
	for name, keep := range map[string]func() error{"at once": keepFromChildren, "each": keepEachFromChildren} {
		f, err := os.Open("/dev/zero")
		must(t, err)
		defer f.Close()
		fd, err := unix.Dup(int(f.Fd())) // which programs started from here inherit
		must(t, err)
		defer unix.Close(fd)
		if out := opened(t); !strings.Contains(out, "/dev/zero") {
			t.Fatalf("%s: the descriptor is not inherited to begin with:\n%s", name, out)
		}
		must(t, keep())
		if out := opened(t); strings.Contains(out, "/dev/zero") {
			t.Errorf("%s: inherited:\n%s", name, out)
		}
	}
}

func opened(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("/bin/sh", "-c", "ls -l /proc/self/fd").CombinedOutput()
	must(t, err)
	return string(out)
}
