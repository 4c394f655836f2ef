package testsshd

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Stop ends the listener and every session, at once: connections are reset, as
// in an outage. On a stopped server it does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	p := s.proc
	s.proc = nil
	s.mu.Unlock()
	if p == nil {
		return
	}
	// The listener stops accepting first, so that the list is complete; once it
	// is dead its children have another parent and are not found any more.
	select {
	case <-p.exited:
		return
	default:
	}
	p.cmd.Process.Signal(syscall.SIGSTOP)
	below := descendants(p.cmd.Process.Pid)
	p.cmd.Process.Kill()
	<-p.exited
	kill(below)
}

// Restart stops the server, if it runs, and starts it on the same port with
// the same keys.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	if !s.run() {
		s.t.Fatalf("testsshd: sshd does not start again:\n%s", s.Log())
	}
}

// KillSessions breaks all connections and leaves the listener running.
func (s *Server) KillSessions() { kill(s.Processes()) }

// Processes returns the pids of all processes below the listener: for each
// connection sshd's own and, with a Subsystem that is a program, that program.
// They can be frozen and killed by the test; the server's end kills them.
func (s *Server) Processes() []int {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return descendants(p.cmd.Process.Pid)
}

// kill ends processes from the lowest upwards, frozen ones too, and waits until
// they are gone, which takes a moment on a busy machine.
func kill(pids []int) {
	for i := len(pids) - 1; i >= 0; i-- {
		syscall.Kill(pids[i], syscall.SIGKILL)
	}
	end := time.Now().Add(10 * time.Second)
	for _, pid := range pids {
		for stat("/proc/"+strconv.Itoa(pid)+"/stat") != nil && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
		}
	}
}

// stat returns what a file of proc(5), "pid (comm) state ppid …", holds after
// comm, or nil when the process is gone or a zombie.
func stat(name string) []string {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])) // comm may hold anything
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return nil
	}
	return fields
}

// descendants returns the pids below pid, parents first, from /proc; where
// that is missing, none.
func descendants(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]int{}
	for _, name := range stats {
		fields := stat(name)
		if fields == nil {
			continue
		}
		ppid, _ := strconv.Atoi(fields[1])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		children[ppid] = append(children[ppid], child)
	}
	all := []int{}
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all
}
