package testpg

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// An archive_command can outlive its server, which kills only what stays in the
// process groups of its children. Kill9 and the end of the test do better.
func TestNothingIsLeftRunning(t *testing.T) {
	for _, end := range []string{"kill", "cleanup"} {
		t.Run(end, func(t *testing.T) {
			var left []relative
			t.Run("run", func(t *testing.T) {
				c := New(t, Options{Conf: map[string]string{
					"archive_mode":    "on",
					"archive_command": `trap "" TERM QUIT INT; echo started >> ../hook; setsid -w sleep 1000`,
				}})
				must(t, c.Start())
				c.SwitchWAL()
				WaitFor(t, time.Minute, "archive_command", func() bool {
					_, err := os.Stat(filepath.Join(c.Base, "hook"))
					return err == nil
				})
				left = descendants(c.Pid())
				if len(left) < 5 {
					t.Errorf("only %d processes found below the server", len(left))
				}
				if end == "kill" {
					must(t, c.Kill9())
					for _, p := range left {
						if p.alive() {
							t.Errorf("%+v lives after Kill9", p)
						}
					}
				}
			})
			for _, p := range left {
				if p.alive() {
					t.Errorf("%+v lives after the test", p)
				}
			}
		})
	}
}

// TestMain lets a test run this binary as a process that starts a server and
// waits to be killed.
func TestMain(m *testing.M) {
	if os.Getenv("TESTPG_VICTIM") == "" {
		m.Run()
		return
	}
	c := New(victim{}, Options{})
	if err := c.Start(); err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, c.Pid(), c.Base)
	select {}
}

type victim struct{}

func (victim) Helper()                   {}
func (victim) Cleanup(func())            {}
func (victim) Failed() bool              { return false }
func (victim) Logf(string, ...any)       {}
func (victim) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

func TestServerEndsWithAKilledTest(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TESTPG_VICTIM=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	var pid int
	var base string
	if _, err := fmt.Sscan(line, &pid, &base); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	t.Cleanup(func() { must(t, os.RemoveAll(base)) })
	server, err := readStat(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	all := append(descendants(pid), server)
	t.Cleanup(func() { must(t, killAll(all)) })
	must(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait() // it was killed
	for _, p := range all {
		WaitFor(t, 20*time.Second, fmt.Sprintf("the end of %+v", p), func() bool { return !p.alive() })
	}
}
