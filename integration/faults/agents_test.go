//go:build linux

package faults_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// useAgents gives each actor an agent, which the first call of its binary starts.
// An agent of a call with a fault has that fault itself, as often as it comes to
// the step. When the history is over all of them are killed.
func (w *world) useAgents() {
	w.agent = true
	for _, a := range w.actors {
		// A socket's path may not be long.
		dir, err := os.MkdirTemp("", "agent-")
		must(w.t, err)
		a.agentDir = dir
		w.t.Cleanup(func() {
			waitFor(hasty.slack, func() bool { return killAgents(dir) == 0 })
			os.RemoveAll(dir)
		})
	}
}

// killAgents kills the agents of that folder, frozen ones too, and returns how
// many there were.
func killAgents(dir string) (killed int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is well formed
	for _, path := range paths {
		env, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(env, []byte("WALSHIP_AGENT_DIR="+dir+"\x00")) {
			continue // another's, or it has ended
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}
