package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"walship/internal/testpg"
)

// machine is one of the computers of the story: a folder that is the home of the
// servers' user there, with what its shell's environment holds.
type machine struct {
	*stage
	name string // in the prompt
	home string
	port int // of the server in data
	env  []string
}

// newMachine makes the machine below home, which also holds bin/walship and the
// servers' sockets.
func newMachine(s *stage, home, name string) *machine {
	m := &machine{stage: s, name: name, home: filepath.Join(home, name)}
	s.check(os.Mkdir(m.home, 0o755))
	s.check(testpg.Own(m.home))
	return m
}

// serve says where the programs of the server are, and on which port it listens.
func (m *machine) serve(bin string, port int) {
	top := filepath.Dir(m.home)
	m.port = port
	m.Cleanup(m.explain)
	m.env = []string{
		"PATH=" + filepath.Join(top, "bin") + ":" + bin + ":/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + m.home, "TMPDIR=" + top,
		// Not the machine's own configuration, if it has one.
		"WALSHIP_CONFIG=" + filepath.Join(m.home, "walship.toml"),
		"PGHOST=" + top, fmt.Sprintf("PGPORT=%d", port), "PGUSER=postgres", "PGDATABASE=postgres",
	}
}

func (m *machine) data() string { return filepath.Join(m.home, "data") }

// starts starts a command line on the machine, in a shell.
func (m *machine) starts(command string) (result func() (string, error)) {
	cmd, err := testpg.As(exec.Command("/bin/sh", "-c", command))
	m.check(err)
	cmd.Dir, cmd.Env = m.home, m.env
	return m.start(cmd, nil)
}

// quietly runs a command line, which has to end with that exit code, and returns
// what it has written.
func (m *machine) quietly(code int, command string) string {
	out, err := m.starts(command)()
	var exit *exec.ExitError
	switch {
	case err == nil && code == 0:
	case errors.As(err, &exit) && exit.ExitCode() == code:
	default:
		m.Fatalf("%s: %s: %v, not exit code %d\n%s", m.name, command, err, code, out)
	}
	return out
}

// silent shows a command line and runs it; what it writes is not shown.
func (m *machine) silent(format string, args ...any) string {
	command := fmt.Sprintf(format, args...)
	m.types(m.name, command)
	return m.quietly(0, command)
}

// does shows a command line, runs it, and shows what it writes.
func (m *machine) does(format string, args ...any) { m.shows(m.silent(format, args...)) }

// fails is does for a command that has to fail, with that exit code.
func (m *machine) fails(code int, format string, args ...any) string {
	command := fmt.Sprintf(format, args...)
	m.types(m.name, command)
	out := m.quietly(code, command)
	m.shows(out)
	return out
}

// ask returns the answer of the machine's server.
func (m *machine) ask(query string) (string, error) {
	cmd, err := testpg.As(exec.Command("/bin/sh", "-c", "exec psql -XAtq -v ON_ERROR_STOP=1"))
	m.check(err)
	cmd.Dir, cmd.Env, cmd.Stdin = m.home, m.env, strings.NewReader(query)
	return m.start(cmd, nil)()
}

// query is ask, of a server that has to answer.
func (m *machine) query(query string) string {
	answer, err := m.ask(query)
	if err != nil {
		m.Fatalf("%s: %v: %s", m.name, err, answer)
	}
	return answer
}

// log is what the server has written, whoever has started it.
func (m *machine) log() string {
	var all strings.Builder
	for _, name := range []string{"log", "data/startup.log", "data/log/walship-start.log"} {
		text, err := os.ReadFile(filepath.Join(m.home, name))
		if err == nil {
			all.Write(text)
		}
	}
	return all.String()
}

// explain shows the end of the log after a failure.
func (m *machine) explain() {
	if m.Failed() {
		lines := strings.Split(strings.TrimSpace(m.log()), "\n")
		m.Logf("the end of the server's log on %s:\n%s", m.name, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// kill9 kills the server and all that it has started, and shows how.
func (m *machine) kill9() {
	leader, _ := postmaster(m.data())
	if leader == 0 {
		m.Fatalf("no server runs in %s:\n%s", m.data(), m.log())
	}
	m.types(m.name, fmt.Sprintf("kill -9 %d", leader))
	// So that it starts nothing more before its end.
	_ = syscall.Kill(leader, syscall.SIGSTOP)
	below := processes(m.data())
	_ = syscall.Kill(leader, syscall.SIGKILL)
	for _, pid := range below {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	m.wait(limit, "the server's end", func() bool {
		return errors.Is(syscall.Kill(leader, 0), syscall.ESRCH) && len(processes(m.data())) == 0
	})
	forget(m.data())
}

// waiting is how many segments wait to be archived.
func (m *machine) waiting() int {
	marks, err := filepath.Glob(filepath.Join(m.data(), "pg_wal", "archive_status", "*.ready"))
	m.check(err)
	return len(marks)
}

// switches closes the current segment. It writes a record first: an unused
// segment is not closed.
func (m *machine) switches() {
	m.query("select pg_create_restore_point('demo') \\g /dev/null\nselect pg_switch_wal()")
}

// settles closes the current segment and waits until all are archived.
func (m *machine) settles() {
	m.switches()
	m.wait(limit, "the archiver to come to an end", func() bool { return m.waiting() == 0 })
}

// holds waits until the server holds these rows, and says them.
func (m *machine) holds(rows string) {
	var answer string
	deadline := time.Now().Add(limit)
	for answer != rows {
		m.look()
		if time.Now().After(deadline) {
			m.Fatalf("%s holds %s, not %s:\n%s", m.name, answer, rows, m.log())
		}
		answer, _ = m.ask(count) // it may still start
	}
	m.shows(fmt.Sprintf("%-8s %s", m.name+":", words(rows)))
}
