package integration_test

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/archive"
	"walship/internal/layout"
	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/transport"
)

// verified is what the tests read of walship verify --json.
type verified struct {
	Version int             `json:"format_version"`
	Whole   bool            `json:"whole"`
	Files   int             `json:"files"`
	Skipped int             `json:"left_out"`
	Backups int             `json:"backups"`
	Faults  []archive.Fault `json:"faults"`
}

func (s *site) verify(code int, args ...string) (v verified) {
	s.t.Helper()
	r := s.runs(append([]string{"verify", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || r.code != code || v.Version != 1 || v.Whole != (code == 0) {
		s.t.Fatalf("verify %q: %s (%v), want code %d", args, r, err, code)
	}
	return v
}

func TestVerify(t *testing.T) {
	t.Parallel()
	s, c, backups := kept(t)
	t.Run("every fault", func(t *testing.T) { verifyFindsEveryFault(t, s.copied(t)) })
	t.Run("resumed", func(t *testing.T) { verifyResumed(t, s.copied(t), backups) })
	t.Run("command", func(t *testing.T) { verifyCommand(t, s.copied(t), c, backups) })
}

// verifyFaults is how many faults TestVerify tries: 1,000 take three minutes.
var verifyFaults = flag.Int("verify-faults", 150, "how many single faults TestVerify makes in an archive")

// Of random single faults in an archive that real servers have made, each
// is found, and none is reported where there is none; the command's exit code
// says so, over SFTP too.
func verifyFindsEveryFault(t *testing.T, s *site) {
	s.age(48 * time.Hour)
	if v := s.verify(0); v.Backups != 3 || v.Files < 20 || len(v.Faults) > 0 {
		t.Fatalf("%+v", v)
	}
	foreign := testpg.New(t, testpg.Options{SegmentMB: 1, Conf: s.archiving()})
	other := s.copied(t)
	must(t, os.RemoveAll(other.root))
	must(t, os.Mkdir(other.root, 0o755))
	foreign.SetConf(map[string]string{"archive_command": other.push()})
	other.init(foreign)
	must(t, foreign.Start())
	strange := other.stored(foreign.Archive(soon))
	must(t, foreign.Kill9())

	var wal, base []string
	must(t, filepath.WalkDir(s.folder(), func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || e.IsDir() || e.Name() == "walship.json":
		case strings.Contains(path, "/base/"):
			base = append(base, path)
		default:
			wal = append(wal, path)
		}
		return err
	}))
	cluster, _ := layout.ParseFolder(filepath.Base(s.folder()))
	r := rand.New(rand.NewPCG(3, 4))
	store := transport.NewLocal(s.root, transport.Full)
	done, harmless := map[string]int{}, 0
	for n := 0; n < *verifyFaults; {
		// Reading a backup takes longer than reading all WAL: every tenth fault.
		files, scope := wal, archive.Scope{WAL: true}
		if n%10 == 0 {
			files, scope = base, archive.Scope{Backups: true}
		}
		path := files[r.IntN(len(files))]
		what, undo := harm(t, r, path, files, strange)
		if what == "" {
			continue
		}
		n++
		done[strings.Fields(what)[0]]++
		v := &archive.Verifier{Store: store, Cluster: cluster, HeaderCheck: true, Jobs: 2, Scope: scope}
		verdict, err := v.Run(t.Context())
		must(t, err)
		if len(verdict.Faults) == 0 && strings.HasPrefix(what, "flip") && sameContent(t, path, undo) {
			harmless++ // a bit that its format does not use
			continue
		}
		if len(verdict.Faults) == 0 {
			t.Errorf("%s: not found", what)
		}
		if n%50 == 0 {
			if v := s.verify(14); len(v.Faults) == 0 || v.Faults[0].What == "" || v.Faults[0].Means == "" {
				t.Errorf("%s: %+v", what, v)
			}
		}
		undo()
		if t.Failed() {
			break
		}
	}
	// zstd has shown of each of them that it changes nothing: some 3 in 100 bits of
	// small files. Many more would mean that something is not looked at.
	if len(done) != 6 || harmless > done["flip"]/8 {
		t.Errorf("faults: %v; %d flipped bits changed nothing", done, harmless)
	}
	if v := s.verify(0); v.Backups != 3 || len(v.Faults) > 0 {
		t.Fatalf("%+v", v)
	}
}

// harm does one thing to a stored file, and says which; "" if it cannot be done
// to it. undo undoes it.
func harm(t *testing.T, r *rand.Rand, path string, files []string, strange string) (what string, undo func()) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	old := time.Now().Add(-48 * time.Hour)
	put := func(path string, b []byte) {
		must(t, os.WriteFile(path, b, 0o640))
		must(t, os.Chtimes(path, old, old))
	}
	undo = func() { put(path, b) }
	switch kind := r.IntN(6); {
	case kind == 0:
		bit := r.IntN(len(b) * 8)
		changed := slices.Clone(b)
		changed[bit/8] ^= 1 << (bit % 8)
		put(path, changed)
		return fmt.Sprintf("flip of bit %d of %s", bit, path), undo
	case kind == 1:
		n := r.IntN(len(b))
		put(path, b[:n])
		return fmt.Sprintf("cut of %s to %d bytes", path, n), undo
	case kind == 2 && !strings.Contains(path, ".partial") && !strings.Contains(path, ".backup."):
		must(t, os.Remove(path))
		return "loss of " + path, undo
	case kind == 3:
		other := files[r.IntN(len(files))]
		theirs, err := os.ReadFile(other)
		must(t, err)
		if slices.Equal(theirs, b) {
			return "", nil
		}
		put(path, theirs)
		put(other, b)
		return fmt.Sprintf("swap of %s and %s", path, other), func() { put(path, b); put(other, theirs) }
	case kind == 4:
		to := filepath.Join(filepath.Dir(path), []string{"copy.zst", filepath.Base(path) + ".1", strings.TrimSuffix(filepath.Base(path), ".zst") + ".gz", "000000010000000000000033.zst"}[r.IntN(4)])
		put(to, b)
		return fmt.Sprintf("duplicate of %s as %s", path, to), func() { must(t, os.Remove(to)) }
	case kind == 5:
		theirs, err := os.ReadFile(strange)
		must(t, err)
		put(path, theirs)
		return "foreign " + path, undo
	}
	return "", nil
}

// sameContent reports whether zstd itself decodes the file to the same bytes when
// the damage is undone, which it does.
func sameContent(t *testing.T, path string, undo func()) bool {
	t.Helper()
	decoded := func() string {
		out, err := exec.Command("zstd", "-dcq", path).Output()
		return fmt.Sprintf("%v %x", err, sha256.Sum256(out))
	}
	harmed := decoded()
	undo()
	return strings.HasPrefix(harmed, "<nil> ") && harmed == decoded()
}

// A verify that is killed goes on where it was, with the same verdict; it takes
// no other's state for its own, and removes it in the end.
func verifyResumed(t *testing.T, s *site, backups []string) {
	state := filepath.Join(t.TempDir(), "state")
	torn := filepath.Join(s.backupFolder(backups[2]), "base-000001.tar.zst")
	must(t, os.Truncate(torn, 1000))
	want := s.verify(14)

	faulty := *s
	faulty.binary = testbin.Faulty(t)
	seen := 0
	for try := 0; ; try++ {
		// It saves once for the histories, for each folder and for each backup.
		r := run(t, "/", []string{"WALSHIP_FAULT=verify.saved=kill"}, faulty.binary, "--config", s.config(), "verify", "--json", "--state", state)
		if r.signal == syscall.SIGKILL {
			if seen++; seen > 20 {
				t.Fatal("it never comes to an end")
			}
			continue
		}
		var v verified
		must(t, json.Unmarshal([]byte(r.stdout), &v))
		if r.code != 14 || !strings.Contains(r.stderr, "goes on where it was broken off") || len(v.Faults) != len(want.Faults) || v.Faults[0] != want.Faults[0] || v.Backups != 3 {
			t.Errorf("%s, want %+v", r, want)
		}
		break
	}
	if seen < 4 {
		t.Errorf("it was killed %d times", seen)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("the state is still there")
	}

	// Another archive's, another command line's, and something else.
	begun := func() {
		run(t, "/", []string{"WALSHIP_FAULT=verify.saved=kill"}, faulty.binary, "--config", s.config(), "verify", "--state", state)
	}
	begun()
	text, err := os.ReadFile(state)
	must(t, err)
	other := s.copied(t)
	for _, r := range []result{other.runs("verify", "--state", state), s.runs("verify", "--wal-only", "--state", state), s.runs("verify", "--sample", "50%", "--state", state)} {
		if r.code != 2 || !strings.Contains(r.stderr, "is of another archive") {
			t.Error(r)
		}
	}
	must(t, os.WriteFile(state, text[:len(text)/2], 0o600))
	if r := s.runs("verify", "--state", state); r.code != 2 || !strings.Contains(r.stderr, "is no state of walship verify") {
		t.Error(r)
	}
	if r := s.runs("verify", "--state", "/nowhere/state"); r.code != 13 {
		t.Error(r)
	}
}

// The command line, what it shows, and what is no verdict.
func verifyCommand(t *testing.T, s *site, c *testpg.Cluster, backups []string) {
	for _, x := range []struct {
		args string
		code int
		says string
	}{
		{"--sample 0%", 2, "is not a share"},
		{"--sample 101%", 2, "is not a share"},
		{"--seed 1", 2, "of no use"},
		{"--jobs 0", 2, "--jobs"},
		{"--since never", 2, "--since"},
		{"--wal-only --backups-only", 2, "nothing to verify"},
		{"--cluster 7", 7, "nothing of cluster 7"},
		{"--since 00000001FFFFFFFF00000FFF", 0, ""},
		{"--sample 50% --seed 7", 0, ""},
		{"--jobs 1 --wal-only --since 1d", 0, ""},
		{"--backups-only -q", 0, ""},
	} {
		r := s.runs(append([]string{"verify"}, strings.Fields(x.args)...)...)
		if r.code != x.code || !strings.Contains(r.stderr, x.says) || x.says == "" && (r.stderr != "" || !strings.Contains(r.stdout, "no fault found")) {
			t.Errorf("verify %s: %s, want code %d, %q", x.args, r, x.code, x.says)
		}
	}
	one, two := s.verify(0, "--sample", "30%", "--seed", "7"), s.verify(0, "--sample", "30%", "--seed", "7", "-D", c.Data)
	if one.Files != two.Files || one.Skipped == 0 || one.Skipped != two.Skipped {
		t.Errorf("a sample of the same seed: %+v and %+v", one, two)
	}

	// For people, in 80 columns and without colour in a pipe; with it on a terminal.
	lost := s.stored(segmentAfter(t, backups[0], 2))
	must(t, os.Remove(lost))
	r := s.runs("verify")
	if r.code != 14 || !strings.Contains(r.stdout, "missing") || !strings.Contains(r.stdout, "1 fault\n") || !strings.Contains(strings.Join(strings.Fields(r.stdout), " "), "are not affected") || strings.Contains(r.stdout, "\x1b") {
		t.Error(r)
	}
	for _, line := range strings.Split(r.stdout, "\n") {
		if len([]rune(line)) > 80 {
			t.Errorf("a line of %d columns: %s", len([]rune(line)), line)
		}
	}
	for noColour, want := range map[string]bool{"": true, "1": false} {
		cmd := exec.Command("script", "-qec", s.command("verify"), "/dev/null")
		cmd.Env = []string{"PATH=/usr/bin:/bin", "TERM=xterm", "NO_COLOR=" + noColour}
		out, _ := cmd.CombinedOutput() // the code is that of the command
		if strings.Contains(string(out), "\x1b[1;31m") != want {
			t.Errorf("NO_COLOR=%q: %q", noColour, out)
		}
	}

	// Unreachable is no verdict.
	s.sshd.Stop()
	if r := s.runs("verify"); r.code != 8 || r.stdout != "" {
		t.Error(r)
	}
}
