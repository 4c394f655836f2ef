//go:build linux

package transport_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"walship/internal/testsshd"
	"walship/transport"
)

const sftpTrace = "trace=openat,write,pwrite64,fsync,close,link,linkat,rename,renameat,renameat2,unlink,unlinkat"

// sftpCalls turns a trace of sftp-server into its calls that changed or synced
// something, one by one: the name of the call and what kind of file it was about.
func sftpCalls(trace string) []string {
	var calls []string
	line := regexp.MustCompile(`^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) += (\d+)`)
	open := map[string]string{} // by descriptor
	for l := range strings.Lines(trace) {
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		call, args, result := m[1], m[2], m[3]
		first, _, _ := strings.Cut(args, ",")
		what := open[first]
		switch call {
		case "openat":
			open[result] = "folder"
			if strings.Contains(args, "O_EXCL") {
				open[result] = "temp"
				calls = append(calls, "create temp")
			}
			continue
		case "close":
			delete(open, first)
			if what != "temp" {
				continue
			}
		case "link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat":
			call, what = strings.TrimRight(call, "at2"), "temp"
		case "write", "pwrite64":
			if what != "temp" { // an answer, or the log
				continue
			}
			call = "write"
		}
		if step := call + " " + what; call != "write" || step != calls[len(calls)-1] {
			calls = append(calls, step)
		}
	}
	return calls
}

// These are the calls of one Put that Put's comment promises.
var sftpPutCalls = []string{"create temp", "write temp", "fsync temp", "close temp", "link temp", "unlink temp", "fsync folder", "fsync folder"}

// The real sftp-server syncs the file before it gets its name, and the folder and
// its parent after that.
func TestSFTPPutSystemCalls(t *testing.T) {
	srv := testsshd.Start(t, testsshd.Options{Strace: sftpTrace})
	s := (&sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts}, plainRoot, ours}).open(t, transport.Full)
	for _, dir := range []string{filepath.Dir(sftpName), sftpCluster + "/tmp"} {
		if err := os.MkdirAll(filepath.Join(s.root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Repeat("x", 200_000)
	if err := s.Put(t.Context(), sftpName, content(text)); err != nil {
		t.Fatal(err)
	}
	if got := sftpCalls(srv.Trace()); !slices.Equal(got, sftpPutCalls) {
		t.Errorf("calls:\n%s\nwant:\n%s\nof\n%s", strings.Join(got, "\n"), strings.Join(sftpPutCalls, "\n"), srv.Trace())
	}
	// What is there is synced, and stays.
	before := len(srv.Trace())
	if err := s.Put(t.Context(), sftpName, content(text)); err == nil {
		t.Fatal("replaced")
	}
	got := strings.Join(sftpCalls(srv.Trace()[before:]), " ")
	if n := strings.Count(got, "fsync"); n < 4 { // temporary, existing, its folder, that one's parent
		t.Errorf("a collision made %d syncs: %s", n, got)
	}
}

// A build that leaves a step out is found out: by the trace, or by a torn file.
func TestSFTPBrokenBuilds(t *testing.T) {
	put := filepath.Join(t.TempDir(), "put")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "fault", "-o", put, "./testdata/put").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	traced := testsshd.Start(t, testsshd.Options{Strace: sftpTrace})
	near := &sftpServer{traced.URL, transport.SSH{KeyFile: traced.KeyFile, KnownHosts: traced.KnownHosts}, plainRoot, ours}
	// Far enough away for all writes to be under way before the first one fails.
	limited := far(t, 40*time.Millisecond, testsshd.Options{Subsystem: limitedServer(t, 100)})
	run := func(srv *sftpServer, fault string, size int) (root string, err error) {
		root = t.TempDir()
		for _, dir := range []string{filepath.Dir(sftpName), sftpCluster + "/tmp"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), put, srv.url(root), srv.ssh.KeyFile, srv.ssh.KnownHosts, sftpName)
		cmd.Env = append(os.Environ(), "WALSHIP_FAULT="+fault)
		cmd.Stdin = bytes.NewReader(make([]byte, size))
		out, err := cmd.CombinedOutput()
		t.Logf("%q: %v %s", fault, err, out)
		return root, err
	}
	for _, step := range []string{"", "put.fsync", "put.folder-fsync", "put.noreplace"} {
		before := len(traced.Trace())
		if _, err := run(near, step+"=skip", 200_000); err != nil {
			t.Fatal(err)
		}
		if got := sftpCalls(traced.Trace()[before:]); slices.Equal(got, sftpPutCalls) != (step == "") {
			t.Errorf("without %q:\n%s", step, strings.Join(got, "\n"))
		}
	}
	for _, step := range []string{"", "put.wait"} {
		root, err := run(limited, step+"=skip", 400_000)
		if published := len(files(t, root)) != 0; published != (step != "") || published != (err == nil) {
			t.Errorf("without %q: %v, and there is %s", step, err, files(t, root))
		}
	}
}
