//go:build linux

package transport_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"walship/transport"
)

// The tests in this file run a Put in a process of its own under strace, which
// shows its system calls, makes one of them fail, or kills the process at it.

const localPutEnv = "WALSHIP_TEST_LOCAL_PUT" // root of the store and Durability

const localContent = "what the Put under strace stores"

// TestLocalPutChild is that process. It is no test without the variable.
func TestLocalPutChild(t *testing.T) {
	root, durability, ok := strings.Cut(os.Getenv(localPutEnv), "|")
	if !ok {
		return
	}
	// strace counts the calls of each thread by itself.
	runtime.LockOSThread()
	d, err := strconv.Atoi(durability)
	if err != nil {
		t.Fatal(err)
	}
	err = transport.NewLocal(root, transport.Durability(d)).Put(t.Context(), localName, localSource(localContent))
	classes := []string{"outcome:"}
	for class, is := range map[string]bool{
		"nil":        err == nil,
		"exist":      errors.Is(err, fs.ErrExist),
		"permission": errors.Is(err, fs.ErrPermission),
		"full":       errors.Is(err, transport.ErrFull),
		"notdurable": errors.Is(err, transport.ErrNotDurable),
		"hint":       transport.Hint(err) != "",
	} {
		if is {
			classes = append(classes, class)
		}
	}
	slices.Sort(classes[1:])
	fmt.Printf("%s\nerror: %v\n", strings.Join(classes, " "), err)
}

// stracedPut runs TestLocalPutChild and returns the classes of Put's error ("" if it
// did not live to tell) and the trace.
func stracedPut(t *testing.T, root string, d transport.Durability, options ...string) (outcome, trace string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "trace")
	args := append([]string{"-f", "-y", "-o", out}, options...)
	cmd := exec.CommandContext(t.Context(), "strace", append(args, os.Args[0], "-test.run=^TestLocalPutChild$", "-test.v")...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", localPutEnv, root, d))
	output, err := cmd.CombinedOutput()
	data, rerr := os.ReadFile(out)
	if rerr != nil {
		t.Fatalf("strace: %v, %s", errors.Join(err, rerr), output)
	}
	if found := regexp.MustCompile(`(?m)^outcome: (.*)$`).FindSubmatch(output); found != nil {
		outcome = string(found[1])
	}
	t.Logf("%s: %s", options, output)
	return outcome, string(data)
}

// localCalls turns a trace into the calls that succeeded below root, one by one:
// the name of the call and what it was about.
func localCalls(t *testing.T, root, trace string) []string {
	t.Helper()
	unfinished := map[string]string{} // by thread
	var calls []string
	call := regexp.MustCompile(`^(\w+)\((.*)\) += (\d+)`)
	hex := regexp.MustCompile(`\.[0-9a-f]{16}\.tmp`)
	target := regexp.MustCompile(`<([^>]*)>(?:, "([^"]*)")?`)
	for line := range strings.Lines(trace) {
		thread, line, _ := strings.Cut(strings.TrimSpace(line), " ")
		line = strings.TrimSpace(line)
		if begin, ok := strings.CutSuffix(line, "<unfinished ...>"); ok {
			unfinished[thread] = begin
			continue
		}
		if resumed := regexp.MustCompile(`^<\.\.\. \w+ resumed>`).FindString(line); resumed != "" {
			line = unfinished[thread] + strings.TrimPrefix(line, resumed)
		}
		m := call.FindStringSubmatch(line)
		if m == nil || !strings.Contains(m[2], root) {
			continue
		}
		if m[1] == "openat" && !strings.Contains(m[2], "O_CREAT|O_EXCL") {
			continue
		}
		if m[1] == "close" && !hex.MatchString(m[2]) {
			continue
		}
		about := []string{m[1]}
		for _, on := range target.FindAllStringSubmatch(m[2], -1) {
			name, _ := filepath.Rel(root, filepath.Join(on[1], on[2]))
			if hex.MatchString(name) {
				name = "TEMP"
			}
			about = append(about, name)
		}
		calls = append(calls, strings.Join(about, " "))
	}
	return calls
}

const localTrace = "--trace=mkdirat,openat,pwrite64,fsync,fdatasync,sync_file_range,close,link,linkat,rename,renameat,renameat2,unlink,unlinkat"

// The system calls are those that Put's comment lists, in that order.
func TestLocalPutSystemCalls(t *testing.T) {
	const wal, parent = localCluster + "/wal", localCluster
	store := []string{
		"openat TEMP", "pwrite64 TEMP", "fsync TEMP", "close TEMP",
		"linkat TEMP " + localName, "unlinkat TEMP", "fsync " + localFolder, "fsync " + wal,
	}
	for _, c := range []struct {
		name    string
		have    []string // folders and files
		outcome string
		want    []string
	}{
		{"folders exist", []string{localFolder + "/", localCluster + "/tmp/"}, "nil", store},
		{"folders missing", []string{localCluster + "/"}, "nil", append([]string{
			"fsync .", "mkdirat " + wal, "fsync " + parent,
			"fsync " + parent, "mkdirat " + localFolder, "fsync " + wal,
			"fsync .", "mkdirat " + localCluster + "/tmp", "fsync " + parent,
		}, store...)},
		{"file exists", []string{localFolder + "/", localCluster + "/tmp/", localName}, "exist", []string{
			"openat TEMP", "pwrite64 TEMP", "fsync TEMP", "close TEMP",
			"fsync " + localName, "fsync " + localFolder, "fsync " + wal, "unlinkat TEMP",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for _, name := range c.have {
				var err error
				if dir, ok := strings.CutSuffix(name, "/"); ok {
					err = os.MkdirAll(filepath.Join(root, dir), 0o700)
				} else {
					err = os.WriteFile(filepath.Join(root, name), nil, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			outcome, trace := stracedPut(t, root, transport.Full, localTrace)
			if got := localCalls(t, root, trace); outcome != c.outcome || !slices.Equal(got, c.want) {
				t.Errorf("outcome %q, want %q; calls:\n%s\nwant:\n%s", outcome, c.outcome, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// Whatever fails, the error has its class, the archive holds nothing or the
// whole file, no temporary file is left, and a retry succeeds or finds the file.
func TestLocalPutFailures(t *testing.T) {
	const (
		temp   = ":when=1" // the first fsync of three
		folder = ":when=2"
		parent = ":when=3"
	)
	const noLink, noRename = "--inject=linkat:error=EPERM", "--inject=renameat2:error=EINVAL"
	for _, c := range []struct {
		durability transport.Durability
		inject     []string
		outcome    string
		there      bool // afterwards
	}{
		{transport.Full, []string{"--inject=pwrite64:error=ENOSPC"}, "full", false},
		{transport.Full, []string{"--inject=pwrite64:error=EDQUOT"}, "full", false},
		{transport.Full, []string{"--inject=pwrite64:error=EIO"}, "", false},
		{transport.Full, []string{"--inject=fsync:error=ENOSPC" + temp}, "full", false},
		{transport.Full, []string{"--inject=fsync:error=EIO" + temp}, "", false},
		{transport.Full, []string{"--inject=fsync:error=EIO" + folder}, "", true},
		{transport.Full, []string{"--inject=fsync:error=EIO" + parent}, "", true},
		{transport.Full, []string{"--inject=linkat:error=EROFS"}, "permission", false},
		{transport.Full, []string{"--inject=linkat:error=EACCES"}, "permission", false},
		{transport.Full, []string{"--inject=linkat:error=ENOSPC"}, "full", false},
		{transport.Full, []string{"--inject=linkat:error=EIO"}, "", false},

		// A file system that cannot sync.
		{transport.Full, []string{"--inject=fsync:error=EINVAL" + temp}, "hint notdurable", false},
		{transport.FileOnly, []string{"--inject=fsync:error=EINVAL" + temp}, "hint notdurable", false},
		{transport.None, []string{"--inject=fsync:error=EINVAL"}, "nil", true},
		{transport.Full, []string{"--inject=fsync:error=EINVAL" + folder}, "hint notdurable", true},
		{transport.Full, []string{"--inject=fsync:error=EOPNOTSUPP" + folder}, "hint notdurable", true},
		{transport.FileOnly, []string{"--inject=fsync:error=EINVAL:when=2+"}, "nil", true},
		{transport.None, []string{"--inject=fsync:error=EIO" + temp}, "", false},

		// A file system without hard links, without an exclusive rename, too.
		{transport.Full, []string{noLink}, "nil", true},
		{transport.Full, []string{"--inject=linkat:error=EOPNOTSUPP"}, "nil", true},
		{transport.Full, []string{noLink, noRename}, "hint notdurable", false},
		{transport.FileOnly, []string{noLink, noRename}, "hint notdurable", false},
		{transport.None, []string{noLink, noRename}, "nil", true},
		{transport.Full, []string{noLink, "--inject=renameat2:error=EPERM"}, "permission", false},

		// The old name of the file cannot be taken away: it is swept later.
		{transport.Full, []string{"--inject=unlinkat:error=EIO"}, "nil", true},
	} {
		t.Run(fmt.Sprint(c.durability, c.inject), func(t *testing.T) {
			s := newLocal(t)
			outcome, trace := stracedPut(t, s.root, c.durability, append(c.inject, localTrace)...)
			if !strings.Contains(trace, "(INJECTED)") {
				t.Fatal("nothing was injected")
			}
			if outcome != c.outcome {
				t.Errorf("outcome %q, want %q", outcome, c.outcome)
			}
			if there := localWhole(t, s); there != c.there {
				t.Errorf("the file is there: %v", there)
			}
			left, err := os.ReadDir(filepath.Join(s.root, localCluster, "tmp"))
			if sweep := strings.Contains(c.inject[0], "unlinkat"); err != nil || (len(left) != 0) != sweep {
				t.Errorf("left %v, %v", left, err)
			}
			localRetry(t, s, c.there)
		})
	}
}

// The file is also safe where publishing has to do without hard links.
func TestLocalPutWithoutLinksRefuses(t *testing.T) {
	for _, inject := range [][]string{
		{"--inject=linkat:error=EPERM"},
		{"--inject=linkat:error=EPERM", "--inject=renameat2:error=EINVAL"},
	} {
		s := newLocal(t)
		if err := s.Plant(localName, []byte("first")); err != nil {
			t.Fatal(err)
		}
		if outcome, _ := stracedPut(t, s.root, transport.None, append(inject, localTrace)...); outcome != "exist" {
			t.Errorf("outcome %q, want exist", outcome)
		}
		if got, err := os.ReadFile(filepath.Join(s.root, localName)); string(got) != "first" {
			t.Errorf("it holds %q, %v", got, err)
		}
	}
}

// Killed as it makes any of its system calls, Put leaves nothing or the whole file.
func TestLocalPutKilled(t *testing.T) {
	for _, c := range []struct {
		call  string
		there bool
	}{
		{"pwrite64:signal=KILL", false},
		{"fsync:signal=KILL:when=1", false},
		{"linkat:signal=KILL", false},
		{"unlinkat:signal=KILL", true},
		{"fsync:signal=KILL:when=2", true},
		{"fsync:signal=KILL:when=3", true},
	} {
		t.Run(c.call, func(t *testing.T) {
			s := newLocal(t)
			if outcome, _ := stracedPut(t, s.root, transport.Full, "--inject="+c.call, localTrace); outcome != "" {
				t.Fatalf("lived to say %q", outcome)
			}
			there := localWhole(t, s)
			if there != c.there {
				t.Errorf("the file is there: %v", there)
			}
			localRetry(t, s, there)
			if _, err := s.Sweep(t.Context(), localCluster+"/tmp", -1); err != nil {
				t.Error(err)
			}
			if left, err := os.ReadDir(filepath.Join(s.root, localCluster, "tmp")); err != nil || len(left) != 0 {
				t.Errorf("left after Sweep: %v, %v", left, err)
			}
			localWhole(t, s)
		})
	}
}

// localWhole reports whether localName is there, and demands that it is whole.
func localWhole(t *testing.T, s localStore) bool {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(s.root, localName))
	if err == nil && string(got) != localContent {
		t.Fatalf("it holds %q", got)
	}
	return err == nil
}

// localRetry demands that a second Put succeeds or finds the file.
func localRetry(t *testing.T, s localStore, there bool) {
	t.Helper()
	err := s.Put(t.Context(), localName, localSource(localContent))
	if there && !errors.Is(err, fs.ErrExist) || !there && err != nil {
		t.Errorf("retry: %v", err)
	}
	if !localWhole(t, s) {
		t.Error("the file is not there after the retry")
	}
}
