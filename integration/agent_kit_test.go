package integration_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testpg"
)

// agentMode says how the sites of all tests are configured, so that one suite
// shows that push and fetch do the same with and without an agent.
var agentMode = flag.String("agent", "off", "off; auto; kill: auto, and agents are killed or frozen at random moments")

// agentSettings are the lines of the configuration that the mode asks for.
func (s *site) agentSettings() string {
	if *agentMode == "off" || strings.Contains(s.more, "agent =") {
		return ""
	}
	return fmt.Sprintf("agent = \"auto\"\nagent_dir = %q", s.agentDir())
}

func (s *site) agentDir() string { return filepath.Join(s.home, "agent") }

// tendAgents ends the site's agents with the test, and in the mode kill troubles
// them until then.
func (s *site) tendAgents(t testing.TB) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for *agentMode == "kill" {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(400)) * time.Millisecond):
			}
			for _, pid := range s.agents() {
				if rand.IntN(3) == 0 {
					_ = syscall.Kill(pid, syscall.SIGSTOP)
				} else {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
		// A call that is just ending may start one more.
		for range 3 {
			for _, pid := range s.agents() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				testpg.WaitFor(t, soon, "the agent to end", func() bool { return !slices.Contains(s.agents(), pid) })
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// loseAgents ends the agents that have logged in already.
func (s *site) loseAgents() {
	for _, pid := range s.agents() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// agents lists the agents that work with the site's configuration.
func (s *site) agents() []int {
	var found []int
	paths, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is well formed
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !strings.Contains("\x00"+string(env), "\x00WALSHIP_CONFIG="+s.config()+"\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if words := strings.Split(string(line), "\x00"); len(words) > 1 && words[1] == "agent" {
			found = append(found, pid)
		}
	}
	return found
}
