package integration_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/internal/testbin"
	"walship/internal/testsshd"
)

// What the tests of hostile conditions share: data directories without a server,
// WAL made to measure, and the binary in the environment that PostgreSQL gives.

// hostileLimit is how long anything may take that has to happen.
const hostileLimit = 60 * time.Second

// hostileCluster is as much of a data directory as walship reads.
type hostileCluster struct {
	t       testing.TB
	Dir     string
	ID      uint64 // system identifier
	Size    int    // of a segment, bytes
	Fixture string // folder below testdata/hostile
	magic   uint16
}

// hostileData makes the data directory of a PostgreSQL 17 with segments of 1 MB,
// which make for quick tests.
func hostileData(t testing.TB) *hostileCluster {
	t.Helper()
	return hostileDataOf(t, "17_seg1", 1<<20, 0xD116)
}

// hostileBig is that of a PostgreSQL 15 with segments of 16 MB.
func hostileBig(t testing.TB) *hostileCluster {
	t.Helper()
	return hostileDataOf(t, "15", 16<<20, 0xD110)
}

func hostileDataOf(t testing.TB, fixture string, size int, magic uint16) *hostileCluster {
	t.Helper()
	c := &hostileCluster{t: t, Dir: t.TempDir(), Size: size, Fixture: fixture, magic: magic}
	for _, dir := range []string{"global", "pg_wal"} {
		hostileOK(t, os.Mkdir(filepath.Join(c.Dir, dir), 0o700))
	}
	version, err := os.ReadFile(filepath.Join("testdata", "hostile", fixture, "PG_VERSION"))
	hostileOK(t, err)
	control := c.fixture("pg_control")
	c.ID = binary.LittleEndian.Uint64(control)
	hostileOK(t, os.WriteFile(filepath.Join(c.Dir, "PG_VERSION"), version, 0o600))
	hostileOK(t, os.WriteFile(filepath.Join(c.Dir, "global", "pg_control"), control, 0o600))
	hostileOK(t, os.WriteFile(filepath.Join(c.Dir, "postgresql.conf"), nil, 0o600))
	return c
}

// fixture is the content of a file of a real server.
func (c *hostileCluster) fixture(name string) []byte {
	c.t.Helper()
	out, err := exec.Command("zstd", "-dc", filepath.Join("testdata", "hostile", c.Fixture, name+".zst")).Output()
	hostileOK(c.t, err)
	return out
}

// name is that of timeline 1's segment of this number.
func (c *hostileCluster) name(number int) string {
	perLog := (1 << 32) / c.Size
	return fmt.Sprintf("00000001%08X%08X", number/perLog, number%perLog)
}

// segment makes the content of timeline 1's segment of this number: the header
// that belongs there and incompressible bytes, others for every seed.
func (c *hostileCluster) segment(number int, seed byte) []byte {
	return hostileSegment(c.magic, 1, uint64(number)*uint64(c.Size), c.ID, c.Size, seed)
}

// hostileSegment makes a segment with a long page header of PostgreSQL 9.3 and
// later.
func hostileSegment(magic uint16, timeline uint32, address, system uint64, size int, seed byte) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	le := binary.LittleEndian
	le.PutUint16(b, magic)
	le.PutUint16(b[2:], 2) // a long header
	le.PutUint32(b[4:], timeline)
	le.PutUint64(b[8:], address)
	le.PutUint64(b[16:], 0)
	le.PutUint64(b[24:], system)
	le.PutUint32(b[32:], uint32(size))
	le.PutUint32(b[36:], 8192)
	return b
}

// add puts a file into pg_wal and returns its path as %p has it.
func (c *hostileCluster) add(name string, content []byte) string {
	c.t.Helper()
	hostileOK(c.t, os.WriteFile(filepath.Join(c.Dir, "pg_wal", name), content, 0o600))
	return "pg_wal/" + name
}

// addSegment adds the segment of this number, and returns its path and name.
func (c *hostileCluster) addSegment(number int, seed byte) (path, name string, content []byte) {
	c.t.Helper()
	name, content = c.name(number), c.segment(number, seed)
	return c.add(name, content), name, content
}

// mode makes the data directory that of a server in that state: "archive
// recovery", "standby" or "ending".
func (c *hostileCluster) mode(mode string) {
	c.t.Helper()
	for _, signal := range []string{"recovery.signal", "standby.signal"} {
		os.Remove(filepath.Join(c.Dir, signal)) // it may not be there
	}
	if signal, ok := map[string]string{"archive recovery": "recovery.signal", "standby": "standby.signal"}[mode]; ok {
		hostileOK(c.t, os.WriteFile(filepath.Join(c.Dir, signal), nil, 0o600))
	}
}

// stored is where the archive in root keeps a segment, without its extension.
func (c *hostileCluster) stored(root, name string) string {
	return filepath.Join(root, strconv.FormatUint(c.ID, 10), "wal", name[:16], name)
}

// tmp is the folder of temporary files of the archive in root.
func (c *hostileCluster) tmp(root string) string {
	return filepath.Join(root, strconv.FormatUint(c.ID, 10), "tmp")
}

// hostileEnv is the environment of a call: PATH and the given variables.
type hostileEnv map[string]string

func (e hostileEnv) with(pairs ...string) hostileEnv {
	all := hostileEnv{}
	for k, v := range e {
		all[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i]] = pairs[i+1]
	}
	return all
}

// hostileFile is the environment for a local archive.
func hostileFile(root string) hostileEnv { return hostileEnv{"WALSHIP_ARCHIVE": "file://" + root} }

// hostileSFTP is the environment for an archive on the server.
func hostileSFTP(s *testsshd.Server, root string) hostileEnv {
	return hostileEnv{"WALSHIP_ARCHIVE": s.URL(root), "WALSHIP_SSH_KEY": s.KeyFile, "WALSHIP_KNOWN_HOSTS": s.KnownHosts}
}

// hostileVia is the same by way of another address of 127.0.0.1, a proxy's.
func hostileVia(t testing.TB, s *testsshd.Server, root, addr string) hostileEnv {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	hostileOK(t, err)
	known := filepath.Join(t.TempDir(), "known_hosts")
	line := fmt.Sprintf("[%s]:%s %s", host, port, ssh.MarshalAuthorizedKey(s.HostKeys[0]))
	hostileOK(t, os.WriteFile(known, []byte(line), 0o600))
	return hostileEnv{"WALSHIP_ARCHIVE": "sftp://" + s.User + "@" + addr + root, "WALSHIP_SSH_KEY": s.KeyFile, "WALSHIP_KNOWN_HOSTS": known}
}

// hostileCall is a call of the binary.
type hostileCall struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan struct{}

	// set once done is closed
	code int // -1: ended by a signal
	took time.Duration
}

// said is standard output and standard error, valid after the end.
func (p *hostileCall) text() string { return p.said.String() }

// stoppable starts the binary with fault points in the data directory. It is
// killed when the test ends before it does.
func (c *hostileCluster) stoppable(env hostileEnv, args ...string) *hostileCall {
	c.t.Helper()
	return hostileStart(c.t, testbin.Faulty(c.t), c.Dir, env, args...)
}

// run runs the binary in the data directory to its end.
func (c *hostileCluster) run(env hostileEnv, args ...string) *hostileCall {
	c.t.Helper()
	p := hostileStart(c.t, testbin.Walship(c.t), c.Dir, env, args...)
	p.wait(c.t)
	return p
}

// faulty is run with fault points.
func (c *hostileCluster) faulty(env hostileEnv, args ...string) *hostileCall {
	c.t.Helper()
	p := c.stoppable(env, args...)
	p.wait(c.t)
	return p
}

// must is run that fails the test if the code is another one.
func (c *hostileCluster) must(code int, env hostileEnv, args ...string) *hostileCall {
	c.t.Helper()
	p := c.run(env, args...)
	if p.code != code {
		c.t.Fatalf("walship %s: code %d instead of %d:\n%s", strings.Join(args, " "), p.code, code, p.text())
	}
	return p
}

func hostileStart(t testing.TB, bin, dir string, env hostileEnv, args ...string) *hostileCall {
	t.Helper()
	return hostileStartWith(t, nil, bin, dir, env, args...)
}

// hostileStartWith is hostileStart with a standard input.
func hostileStartWith(t testing.TB, stdin *os.File, bin, dir string, env hostileEnv, args ...string) *hostileCall {
	t.Helper()
	p := &hostileCall{cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	p.cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	for k, v := range env {
		p.cmd.Env = append(p.cmd.Env, k+"="+v)
	}
	begun := time.Now()
	hostileOK(t, p.cmd.Start())
	go func() {
		p.cmd.Wait()
		p.took, p.code = time.Since(begun), p.cmd.ProcessState.ExitCode()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

func (p *hostileCall) wait(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(hostileLimit):
		t.Fatalf("%s has not ended after %s", strings.Join(p.cmd.Args, " "), hostileLimit)
	}
}

func (p *hostileCall) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stopped waits until the process has stopped itself, and is false if it ended
// instead.
func (p *hostileCall) stopped(t testing.TB) bool {
	t.Helper()
	hostileWait(t, "a stop of "+p.cmd.String(), func() bool { return p.ended() || hostileState(p.cmd.Process.Pid) == "T" })
	return !p.ended()
}

// resume lets the process go on to its end, through every further stop.
func (p *hostileCall) resume(t testing.TB) {
	t.Helper()
	hostileWait(t, "the end of "+p.cmd.String(), func() bool {
		if !p.ended() && hostileState(p.cmd.Process.Pid) == "T" {
			p.cmd.Process.Signal(syscall.SIGCONT)
		}
		return p.ended()
	})
}

// hostileState is the letter for the state of a process: T is stopped.
func hostileState(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// hostileWait polls until the condition holds.
func hostileWait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(hostileLimit); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", hostileLimit, what)
		}
	}
}

func hostileOK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hostileTree lists every file below root with its size and content, for
// comparisons.
func hostileTree(t testing.TB, root string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&all, "%s %d bytes, %s\n", path, info.Size(), info.ModTime())
		return nil
	})
	hostileOK(t, err)
	return all.String()
}

// hostileContent is what the format's own tool makes of a stored file.
func hostileContent(path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".zst":
		return exec.Command("zstd", "-dc", path).Output()
	case ".gz":
		return exec.Command("gzip", "-dc", path).Output()
	case ".lz4":
		return exec.Command("lz4", "-dc", path).Output()
	}
	return os.ReadFile(path)
}

// archived is the one stored file of the name and its content. An error means
// none, two of them, or one that its own tool cannot read.
func (c *hostileCluster) archived(root, name string) (path string, content []byte, err error) {
	found, err := filepath.Glob(c.stored(root, name) + "*")
	if err != nil {
		return "", nil, err
	}
	found = slices.DeleteFunc(found, func(path string) bool { return strings.HasSuffix(path, ".sha256") }) // vouches for a plain one
	if len(found) != 1 {
		return "", nil, fmt.Errorf("%d stored files of %s: %v", len(found), name, found)
	}
	content, err = hostileContent(found[0])
	if err != nil {
		err = fmt.Errorf("%s: %w", found[0], err)
	}
	return found[0], content, err
}

// holds is nil if the archive's content of the name is this.
func (c *hostileCluster) holds(root, name string, want []byte) error {
	path, content, err := c.archived(root, name)
	if err == nil && !bytes.Equal(content, want) {
		err = fmt.Errorf("%s holds %d other bytes", path, len(content))
	}
	return err
}

// hostileLeft lists the temporary files of an archive.
func (c *hostileCluster) left(root string) []string {
	c.t.Helper()
	found, err := filepath.Glob(filepath.Join(c.tmp(root), "*"))
	hostileOK(c.t, err)
	return found
}

// hostileAll runs functions at once and fails the test with their errors.
func hostileAll(t testing.TB, all map[string]func() error) {
	t.Helper()
	var running sync.WaitGroup
	for name, run := range all {
		running.Go(func() {
			if err := run(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	running.Wait()
}

// hostileShell runs a command line as PostgreSQL does.
func hostileShell(dir, line string) (code int, said string) {
	ctx, cancel := context.WithTimeout(context.Background(), hostileLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = dir
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

// hostileLines checks that text is one line of walship's, and perhaps hints.
func hostileLines(text string) error {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		prefix := "walship: "
		if i > 0 {
			prefix = "walship: hint: "
		}
		if !strings.HasPrefix(line, prefix) || hostileControl.MatchString(line) {
			return fmt.Errorf("not one clear line and hints: %q", text)
		}
		if strings.HasSuffix(line, ".") {
			return fmt.Errorf("a period at the end: %q", line)
		}
	}
	return nil
}

var hostileControl = regexp.MustCompile(`[\x00-\x1f\x7f]`)
