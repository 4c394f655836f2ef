package integration_test

import (
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"walship/internal/testpg"
)

// terminal is a command that runs on a real terminal of 80 columns, and whoever
// sits before it.
type terminal struct {
	t     testing.TB
	keys  func(string) error // what is typed
	shows func() bool        // whether what is typed is shown
	ended chan struct{}      // closed once cmd has ended, and all that it has shown was read
	cmd   *exec.Cmd

	read int // how many letters of what is shown expect has passed

	mu   sync.Mutex
	text string // all that has been shown
}

// terminal starts walship on one.
func (a *admin) terminal(args ...string) *terminal {
	a.t.Helper()
	cmd, err := testpg.As(a.command(args...))
	must(a.t, err)
	cmd.SysProcAttr.Setctty = true
	cmd.Env = append(cmd.Env, "TERM=xterm")
	device, err := pty.StartWithAttrs(cmd, &pty.Winsize{Rows: 24, Cols: 80}, cmd.SysProcAttr)
	must(a.t, err)
	s := &terminal{t: a.t, cmd: cmd, ended: make(chan struct{})}
	s.keys = func(keys string) error { _, err := device.WriteString(keys); return err }
	s.shows = func() bool {
		settings, err := unix.IoctlGetTermios(int(device.Fd()), unix.TCGETS)
		must(a.t, err)
		return settings.Lflag&unix.ECHO != 0
	}
	go func() {
		defer close(s.ended)
		defer func() { _ = cmd.Wait() }() // its state tells
		buffer := make([]byte, 4096)
		for {
			n, err := device.Read(buffer)
			s.mu.Lock()
			s.text += strings.ReplaceAll(string(buffer[:n]), "\r", "")
			s.mu.Unlock()
			if err != nil { // EIO: nobody has the terminal open any more
				return
			}
		}
	}()
	a.t.Cleanup(func() {
		_ = syscall.Kill(cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		<-s.ended
		_ = device.Close() // nothing hangs on it
	})
	return s
}

// expect waits until the text is shown, behind what was expected before. It may be
// broken over several lines.
func (s *terminal) expect(text string) {
	s.t.Helper()
	letters := func(text string) string { return strings.Join(strings.Fields(text), "") }
	found := func() bool {
		all := letters(s.shown())
		_, behind, found := strings.Cut(all[s.read:], letters(text))
		if found {
			s.read = len(all) - len(behind)
		}
		return found
	}
	for deadline := time.Now().Add(soon); !found(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the terminal does not show %q:\n%s", text, s.shown())
		}
	}
}

// answer types a line.
func (s *terminal) answer(line string) {
	s.t.Helper()
	must(s.t, s.keys(line+"\n"))
}

// ends waits for the end of the command, and wants that exit code. It returns all
// that was shown.
func (s *terminal) ends(code int) string {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(soon):
		s.t.Fatalf("the command does not end:\n%s", s.shown())
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Fatalf("exit code %d, want %d:\n%s", got, code, s.shown())
	}
	return s.shown()
}

func (s *terminal) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}
