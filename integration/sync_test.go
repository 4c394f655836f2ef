package integration_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walship/archive"
	"walship/internal/layout"
	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
	"walship/transport"
)

// synced is what the tests read of walship sync --json.
type synced struct {
	Version int `json:"format_version"`
	Syncs   []struct {
		Whole   bool                `json:"whole"`
		Made    bool                `json:"made"`
		Files   int                 `json:"files"`
		Backups int                 `json:"backups"`
		There   int                 `json:"already_there"`
		Held    int                 `json:"held_back"`
		Faults  []archive.SyncFault `json:"faults"`
	} `json:"syncs"`
}

func readSynced(t testing.TB, code int, r result) synced {
	t.Helper()
	var v synced
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || r.code != code || v.Version != 1 {
		t.Fatalf("sync: %s (%v), want code %d", r, err, code)
	}
	for _, one := range v.Syncs {
		if one.Whole && code != 0 && len(v.Syncs) == 1 {
			t.Errorf("whole, and code %d: %s", code, r)
		}
	}
	return v
}

// sync copies from one archive to another, both on the site's host.
func (s *site) sync(code int, from, to string, args ...string) synced {
	s.t.Helper()
	url := "sftp://" + s.sshd.User + "@" + s.addr
	return readSynced(s.t, code, s.runs(append([]string{"sync", "--json", url + from, url + to}, args...)...))
}

// contentsOf are the files of an archive by name, but for those that no other
// archive is meant to have.
func contentsOf(t testing.TB, root string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	must(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.Contains(path, "/tmp/") || strings.HasSuffix(path, ".damaged") {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		all[name] = string(text)
		return err
	}))
	return all
}

// sameArchive fails unless both hold the same files, byte for byte, but for those
// with one of these words in their names, which only the first holds.
func sameArchive(t testing.TB, from, to string, without ...string) {
	t.Helper()
	a, b := contentsOf(t, from), contentsOf(t, to)
	for name, text := range a {
		left := slices.ContainsFunc(without, func(w string) bool { return strings.Contains(name, w) })
		other, there := b[name]
		switch {
		case left && there:
			t.Errorf("%s was copied", name)
		case left:
		case !there:
			t.Errorf("%s is missing", name)
		case other != text:
			t.Errorf("%s is another file", name)
		}
	}
	for name := range b {
		if _, there := a[name]; !there {
			t.Errorf("%s is nowhere else", name)
		}
	}
}

// WAL of two timelines, histories and base backups that real servers have made.
func TestSync(t *testing.T) {
	t.Parallel()
	s, c, backups := kept(t)
	t.Run("to a fresh place", func(t *testing.T) { syncFresh(t, s.copied(t), c) })
	t.Run("killed", func(t *testing.T) { syncKilled(t, s.copied(t)) })
	t.Run("damaged", func(t *testing.T) { syncDamaged(t, s.copied(t), backups) })
}

// A fresh archive has all that the other has, and a server is restored from it
// alone.
func syncFresh(t *testing.T, s *site, c *testpg.Cluster) {
	to := filepath.Join(testpg.Dir(t), "second")
	dry := s.sync(0, s.root, to, "--dry-run").Syncs[0]
	if _, err := os.Stat(to); err == nil || dry.Whole || !dry.Made || dry.Backups != 3 {
		t.Errorf("dry run: %+v, %v", dry, err)
	}
	done := s.sync(0, s.root, to).Syncs[0]
	if !done.Whole || !done.Made || done.Files != dry.Files || done.Backups != 3 || done.There != 0 {
		t.Errorf("%+v, the dry run had said %+v", done, dry)
	}
	sameArchive(t, s.root, to)
	again := s.sync(0, s.root, to).Syncs[0]
	if !again.Whole || again.Made || again.Files != 0 || again.Backups != 0 || again.There == 0 {
		t.Errorf("again: %+v", again)
	}

	want, err := func() (string, error) {
		must(t, c.Start())
		defer func() { must(t, c.Kill9()) }()
		return contents(c)
	}()
	must(t, err)
	must(t, os.Rename(s.root, s.root+".burnt"))
	s.root = to
	s.through(s.addr)
	s.verify(0)
	copied := s.restored()
	if got := mustContents(t, copied); got != want {
		t.Errorf("restored\n%s, want\n%s", got, want)
	}
}

// Killed at any step and run again, it comes to its end, and whatever has been
// copied by then can be restored: there is no gap, and no manifest without its
// backup.
func syncKilled(t *testing.T, s *site) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	to := filepath.Join(testpg.Dir(t), "second")
	steps := []string{"put.created", "put.written", "put.synced", "put.published", "put.folder-synced", "sync.copied", "sync.copied", "sync.copied", "sync.backup"}
	cluster, _ := layout.ParseFolder(filepath.Base(s.folder()))
	ends := map[string]string{} // of timelines, in the whole archive
	for _, tl := range take(t, s.root, cluster).Timelines {
		ends[tl.ID.String()] = tl.Runs[len(tl.Runs)-1].Last.String()
	}
	killed := 0
	for range 25 {
		step := steps[r.IntN(len(steps))]
		call := run(t, "/", []string{"WALSHIP_FAULT=" + step + "=kill"}, testbin.Faulty(t), "sync", "-q", "--jobs", fmt.Sprint(1+r.IntN(4)), "file://"+s.root, "file://"+to)
		if call.code == 0 {
			break
		}
		if call.code != -1 {
			t.Fatalf("seed %d, killed at %s: %s", seed, step, call)
		}
		killed++
		if _, err := os.Stat(filepath.Join(to, cluster.IdentityFile())); err != nil {
			continue // nothing yet
		}
		inv := take(t, to, cluster)
		if len(inv.Gaps) > 0 || len(inv.Broken) > 0 {
			t.Fatalf("seed %d, killed at %s: gaps %v, broken %v", seed, step, inv.Gaps, inv.Broken)
		}
		for _, tl := range inv.Timelines {
			for _, child := range take(t, s.root, cluster).Timelines {
				if child.History == nil || child.History.Parent().Timeline != tl.ID || len(tl.Runs) == 0 {
					continue
				}
				// What the child has left is there only when its history is, too.
				last := tl.Runs[len(tl.Runs)-1].Last
				if c := inv.Timeline(child.ID); (c == nil || c.History == nil) && inv.Geometry.End(last) > child.History.Parent().Switch {
					t.Errorf("seed %d, killed at %s: %s, which timeline %d has left, came before its history", seed, step, last, child.ID)
				}
			}
		}
		for _, b := range inv.Backups {
			if b.Manifest != nil && b.Damage != "" {
				t.Errorf("seed %d, killed at %s: backup %s: %s", seed, step, b.ID, b.Damage)
			}
		}
	}
	t.Logf("seed %d: killed %d times", seed, killed)
	if killed < 5 {
		t.Errorf("seed %d: killed %d times only", seed, killed)
	}
	if p := run(t, "/", nil, s.binary, "sync", "-q", "file://"+s.root, "file://"+to); p.code != 0 {
		t.Fatalf("seed %d: %s", seed, p)
	}
	sameArchive(t, s.root, to)
}

func take(t testing.TB, root string, c layout.Cluster) *archive.Inventory {
	t.Helper()
	inv, err := archive.Take(t.Context(), transport.NewLocal(root, transport.Full), c, archive.Look{})
	must(t, err)
	return inv
}

// What is damaged is told and not copied, and everything else is; with a damaged
// part a backup gets no manifest. What is torn at the other end is told, too.
func syncDamaged(t *testing.T, s *site, backups []string) {
	to := filepath.Join(testpg.Dir(t), "second")
	segments, err := filepath.Glob(filepath.Join(s.folder(), "wal", "*", "????????????????????????.zst"))
	must(t, err)
	parts, err := filepath.Glob(filepath.Join(s.folder(), "base", backups[0], "base-*.zst"))
	must(t, err)
	segment, part := segments[len(segments)/2], parts[0]
	for _, path := range []string{segment, part} {
		content, err := os.ReadFile(path)
		must(t, err)
		copy(content[len(content)/2:], strings.Repeat("x", 64))
		must(t, os.Chmod(path, 0o600))
		must(t, os.WriteFile(path, content, 0o600))
	}
	v := s.sync(14, s.root, to).Syncs[0]
	if len(v.Faults) != 2 || v.Faults[0].Kind != archive.Damaged || filepath.Base(v.Faults[0].File) != filepath.Base(segment) ||
		filepath.Base(v.Faults[1].File) != filepath.Base(part) || v.Backups != 2 {
		t.Errorf("%+v", v)
	}
	sameArchive(t, s.root, to, filepath.Base(segment), filepath.Join(backups[0], filepath.Base(part)), filepath.Join(backups[0], "manifest.json"))

	// Torn at the other end: told, and left as it is.
	torn := filepath.Join(to, strings.TrimPrefix(segments[0], s.root))
	must(t, os.Chmod(torn, 0o600))
	must(t, os.Truncate(torn, 700))
	v = s.sync(14, s.root, to).Syncs[0]
	if len(v.Faults) != 3 || filepath.Base(v.Faults[0].File) != filepath.Base(torn) || !strings.HasSuffix(v.Faults[0].Archive, to) {
		t.Errorf("%+v", v)
	}
	if info, err := os.Stat(torn); err != nil || info.Size() != 700 {
		t.Errorf("it was replaced: %v, %v", info, err)
	}
	must(t, os.Remove(torn))
	if v = s.sync(14, s.root, to).Syncs[0]; v.Files != 1 || len(v.Faults) != 2 {
		t.Errorf("%+v", v)
	}
}

// Other content under one name is a conflict, whatever codec either archive has;
// nothing is replaced, and what follows it is held back. The archives of the configuration are brought together.
func TestSyncConflicts(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	c := hostileData(t)
	for _, codecs := range [][2]string{{"zstd", "zstd"}, {"none", "none"}, {"gzip", "none"}} {
		var env [2]hostileEnv
		var root [2]string
		for i := range root {
			root[i] = t.TempDir()
			env[i] = hostileFile(root[i])
			c.must(0, env[i], "init", "--codec", codecs[i])
		}
		push := func(i, number int, seed byte) {
			path, name, _ := c.addSegment(number, seed)
			c.must(0, env[i], "push", path, name)
		}
		for n := 1; n <= 4; n++ {
			push(0, n, 1)
		}
		push(1, 2, 1)
		push(1, 3, 2)
		c.add(c.name(5), c.segment(5, 9))
		c.must(0, env[0], "set-aside", c.name(5))
		sync := func(code int) synced {
			return readSynced(t, code, run(t, "/", nil, testbin.Walship(t), "sync", "--json", "file://"+root[0], "file://"+root[1]))
		}
		v := sync(5).Syncs[0]
		if v.Files != 2 || v.There != 1 || v.Held != 1 || len(v.Faults) != 1 || v.Faults[0].Kind != archive.Conflict || !strings.Contains(v.Faults[0].File, c.name(3)) {
			t.Errorf("%v: %+v", codecs, v)
		}
		hostileOK(t, c.holds(root[1], c.name(3), c.segment(3, 2)))
		for _, n := range []int{1, 2} {
			hostileOK(t, c.holds(root[1], c.name(n), c.segment(n, 1)))
		}
		// The other server needs this name, and recovery must not go from one's WAL into the other's.
		if found, _ := filepath.Glob(c.stored(root[1], c.name(4)) + "*"); len(found) > 0 {
			t.Errorf("%v: what follows the conflict was copied: %q", codecs, found)
		}
		if found, _ := filepath.Glob(filepath.Join(root[1], "*", "refused", c.name(5)+".*")); len(found) == 0 {
			t.Error("what was set aside was not copied")
		}
		for _, n := range []int{1, 2} { // it is what a server wants to have
			c.mode("archive recovery")
			c.must(0, env[1], "fetch", c.name(n), "pg_wal/RECOVERYXLOG")
		}
		c.must(0, env[1], "verify", "-q")
		if v := sync(5).Syncs[0]; v.Files != 0 || v.There != 3 || v.Held != 1 {
			t.Errorf("%v, again: %+v", codecs, v)
		}
	}

	c.mode("")
	a := newTwo(t, c, server)
	a.pushOnly(0, 1, 1)
	p := a.run(a.env, "sync", "-q")
	says(t, "sync", p.code, p.text(), 0, "from "+a.url[0], "to   "+a.url[1], "copied 1 file")
	hostileOK(t, a.holds(a.root[1], a.name(1), a.segment(1, 1)))
	// An archive that the configuration lists is not made: its disk may not be mounted.
	hostileOK(t, os.RemoveAll(a.root[1]))
	hostileOK(t, os.Mkdir(a.root[1], 0o755))
	p = a.run(a.env, "sync", "-q")
	says(t, "unmounted", p.code, p.text(), 7, a.url[1], "is the disk mounted")
	p = a.run(a.env, "sync", "-q", a.url[0])
	says(t, "one name", p.code, p.text(), 2, "walship sync FROM TO")
	p = a.run(a.env, "sync", "-q", a.url[0], a.url[0]+"/")
	says(t, "itself", p.code, p.text(), 2, "the same archive")
}
