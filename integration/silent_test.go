package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// A server that accepts and then never answers: push and fetch come to an end by
// themselves, within the limit of the whole call (timeout) and within that of
// silence, and with the right code.

// hostileSlack is what a busy machine may add to a limit.
const hostileSlack = 8 * time.Second

// hostileAsker is who calls, in a data directory of its own.
type hostileAsker struct {
	what string
	args []string
	code int
	data *hostileCluster
	root string // of an archive that holds segment 1
	// longest is how long the call may take with a silence of 2 seconds.
	longest time.Duration
}

func hostileAskers(t *testing.T) []*hostileAsker {
	t.Helper()
	fetch := []string{"fetch", "000000010000000000000001", "pg_wal/RECOVERYXLOG"}
	askers := []*hostileAsker{
		{what: "push", args: []string{"push", "pg_wal/000000010000000000000002", "000000010000000000000002"}, code: 8, longest: 2 * time.Second},
		{what: "archive recovery", args: fetch, code: 126, longest: 10 * time.Second}, // asks three times, with pauses
		{what: "standby", args: fetch, code: 1, longest: 2 * time.Second},
		{what: "ending", args: fetch, code: 1, longest: 2 * time.Second},
	}
	for _, a := range askers {
		a.data, a.root = hostileData(t), t.TempDir()
		path, name, _ := a.data.addSegment(1, 1)
		a.data.must(0, hostileFile(a.root), "init")
		a.data.must(0, hostileFile(a.root), "push", path, name)
		a.data.addSegment(2, 1)
		a.data.mode(a.what)
	}
	return askers
}

func (a *hostileAsker) push() bool { return a.what == "push" }

// hostileLimits are the two ways to bound a call; longest is for how long it may
// then take.
func (a *hostileAsker) limits() map[string]time.Duration {
	return map[string]time.Duration{"--timeout=6s": 6 * time.Second, "--silence=2s": a.longest}
}

// check judges how the call has ended.
func (a *hostileAsker) check(p *hostileCall, limit string, took time.Duration) error {
	switch {
	case p.code != a.code:
		return fmt.Errorf("%s: code %d instead of %d: %s", limit, p.code, a.code, p.text())
	case took > a.limits()[limit]+hostileSlack:
		return fmt.Errorf("%s: it took %s", limit, took)
	case p.text() == "":
		return fmt.Errorf("%s: code %d without a word", limit, p.code)
	}
	if _, err := os.Stat(filepath.Join(a.data.Dir, "pg_wal", "RECOVERYXLOG")); err == nil {
		return fmt.Errorf("%s: something was delivered", limit)
	}
	if found, _ := filepath.Glob(a.data.stored(a.root, "000000010000000000000002") + "*"); a.push() && len(found) > 0 {
		return fmt.Errorf("%s: something was published", limit)
	}
	return hostileLines(strings.Replace(p.text(), "walship: warning: ", "walship: ", 1))
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	mute := testsshd.Start(t, testsshd.Options{Subsystem: "cat >/dev/null"}) // ends with its session
	askers := hostileAskers(t)
	run := map[string]func() error{}
	places := map[string]func(a *hostileAsker) string{ // the address to call
		"at connect":         func(*hostileAsker) string { return testnet.Silent(t, "") },
		"after its greeting": func(*hostileAsker) string { return testnet.Silent(t, "SSH-2.0-OpenSSH_9.2\r\n") },
		"in the handshake": func(*hostileAsker) string {
			p := testnet.New(t, server.Addr)
			p.BlackHoleAfter(testnet.ToClient, 700)
			return p.Addr()
		},
		"after the login": func(*hostileAsker) string { return mute.Addr },
		"in the middle of the transfer": func(a *hostileAsker) string {
			p := testnet.New(t, server.Addr)
			if a.push() {
				p.BlackHoleAfter(testnet.ToServer, 300<<10)
			} else {
				p.BlackHoleAfter(testnet.ToClient, 300<<10)
			}
			return p.Addr()
		},
	}
	bin := testbin.Walship(t)
	for place, address := range places {
		for _, a := range askers {
			for limit := range a.limits() {
				s := server
				if place == "after the login" {
					s = mute
				}
				env := hostileVia(t, s, a.root, address(a))
				run[place+", "+a.what+", "+limit] = func() error {
					p := hostileStart(t, bin, a.data.Dir, env, append([]string{limit}, a.args...)...)
					p.wait(t)
					if err := a.check(p, limit, p.took); err != nil {
						return err
					}
					if place == "in the middle of the transfer" || a.push() {
						t.Logf("%s, %s, %s: %d after %s: %s", place, a.what, limit, p.code, p.took.Round(100*time.Millisecond), p.text())
					}
					return nil
				}
			}
		}
	}
	hostileAll(t, run)
}

// The processes of a server are frozen while push and fetch are in the middle:
// the one that speaks SFTP, or all of them, the listener included.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	run := map[string]func() error{}
	for _, a := range hostileAskers(t) {
		if a.what == "ending" {
			continue // as standby
		}
		for limit, victims := range map[string]string{"--timeout=6s": "all", "--silence=2s": "sftp-server"} {
			server := testsshd.Start(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t)})
			// More than what can be on its way is still to come.
			c := hostileBig(t)
			b := *a
			b.data, b.root = c, t.TempDir()
			env := hostileSFTP(server, b.root)
			c.must(0, hostileFile(b.root), "init")
			step := "put.created"
			path, name, content := c.addSegment(1, 1)
			if b.push() {
				c.addSegment(2, 1)
			} else {
				c.must(0, hostileFile(b.root), "push", path, name)
				step = "fetch.created"
			}
			c.mode(b.what)
			run[fmt.Sprintf("%s, %s, %s frozen", b.what, limit, victims)] = func() error {
				p := hostileStart(t, testbin.Faulty(t), c.Dir, env.with("WALSHIP_FAULT", step+"=stop"), append([]string{limit}, b.args...)...)
				if !p.stopped(t) {
					return fmt.Errorf("it never came to %s: %s", step, p.text())
				}
				sessions := server.Processes()
				freeze := hostileNamed(sessions, "sftp-server")
				if victims == "all" {
					freeze = append(sessions, hostileParent(sessions[0]))
				}
				for _, pid := range freeze {
					syscall.Kill(pid, syscall.SIGSTOP)
				}
				// Its sshd may end before it, and then the server's end does not find it.
				defer func() {
					for _, pid := range hostileNamed(freeze, "sftp-server") {
						syscall.Kill(pid, syscall.SIGKILL)
					}
				}()
				begun := time.Now()
				p.resume(t)
				took := time.Since(begun)
				if victims == "sftp-server" && b.what == "archive recovery" {
					// It asks again, and a new connection has a process of its own.
					got, err := os.ReadFile(filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG"))
					if p.code != 0 || !bytes.Equal(got, content) || took > b.longest+hostileSlack {
						return fmt.Errorf("code %d after %s, %d bytes, %v: %s", p.code, took, len(got), err, p.text())
					}
					return nil
				}
				return b.check(p, limit, took)
			}
		}
	}
	hostileAll(t, run)
}

// hostileNamed are those of the processes that are called so.
func hostileNamed(pids []int, name string) (found []int) {
	for _, pid := range pids {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if string(bytes.TrimSpace(comm)) == name {
			found = append(found, pid)
		}
	}
	return found
}

// hostileParent is the process that has started this one.
func hostileParent(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	parent, err := strconv.Atoi(fields[1])
	if err != nil || parent < 2 {
		return pid
	}
	return parent
}
