//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/testbin"
	"walship/internal/testsshd"
	"walship/walname"
)

// TestMillion pushes to and fetches from an archive of a million segments and an
// empty one in turn, and then prunes half of the large one. Its files are
// holes of 4 KB, each an inode of its own.
func TestMillion(t *testing.T) {
	const million = 1_000_000
	m := makeMaterial(t)
	srv := testsshd.Start(t, testsshd.Options{Config: []string{"MaxStartups 100"}})
	h := at(t, srv, 0)
	walship := testbin.Walship(t)
	data, err := pgdata.Open(m.data)
	must(t, err)
	c := layout.Cluster{SystemID: data.Control.SystemID}

	empty, large := t.TempDir(), t.TempDir()
	for _, root := range []string{empty, large} {
		must(t, os.Chmod(root, 0o755))
	}
	run(t, call(m, walship, h, empty, "init"))
	stock(t, large, c, million, func(s walname.Segment, name string) {
		if slices.Contains(m.segments, s.String()) {
			return // it is pushed
		}
		f, err := os.Create(name)
		must(t, err)
		must(t, f.Truncate(4096))
		must(t, f.Close())
	})

	to := filepath.Join(t.TempDir(), "segment")
	whole := func(int) { os.Remove(to) }
	var push, fetch []*contender
	for _, a := range []struct{ name, root string }{{"an empty archive", empty}, {"an archive of a million segments", large}} {
		push = append(push, &contender{name: a.name, run: func(i int) *exec.Cmd {
			return call(m, walship, h, a.root, "push", "pg_wal/"+m.name(i), m.name(i))
		}})
		fetch = append(fetch, &contender{name: a.name, prep: whole, run: func(i int) *exec.Cmd {
			return call(m, walship, h, a.root, "fetch", m.name(i), to)
		}})
	}
	measure(t, *rounds, push)
	report("push one segment, cold, to", push)
	measure(t, *rounds, fetch)
	report("fetch one segment, cold, from", fetch)

	g := walname.Geometry{SegmentSize: walname.DefaultSegmentSize}
	from := g.FromNumber(1, million/2+1).String()
	began := time.Now()
	run(t, call(material{data: "/"}, walship, h, large, "prune", "--keep-from", from, "--dry-run"))
	plan := time.Since(began)
	before := segmentsIn(t, large)
	began = time.Now()
	memory := peak(t, call(material{data: "/"}, walship, h, large, "prune", "--keep-from", from, "--yes"))
	took := time.Since(began)
	gone := before - segmentsIn(t, large)
	if gone < million/2-*rounds-1 {
		t.Fatalf("%d of %d segments are gone", gone, before)
	}
	fmt.Printf("\nprune of %d segments of %d: %.1f s with the plan, %.0f files a second; the plan alone %.1f s, without it %.0f files a second; %d MB of memory\n",
		gone, before, took.Seconds(), float64(gone)/took.Seconds(), plan.Seconds(), float64(gone)/(took-plan).Seconds(), memory>>10)
	prunedAtBest(t, h, filepath.Join(large, c.WAL()))
}

// segmentsIn counts the files of WAL.
func segmentsIn(t *testing.T, root string) (n int) {
	must(t, filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && len(d.Name()) == 24+len(".zst") {
			n++
		}
		return err
	}))
	return n
}

// prunedAtBest removes what is left by other means: some of it by OpenSSH's own
// sftp, and the rest in place.
func prunedAtBest(t *testing.T, h *host, wal string) {
	const some = 20_000
	var batch bytes.Buffer
	n := 0
	must(t, filepath.WalkDir(wal, func(path string, d fs.DirEntry, err error) error {
		if n == some {
			return fs.SkipAll
		}
		if err == nil && !d.IsDir() {
			fmt.Fprintf(&batch, "rm %s\n", path)
			n++
		}
		return err
	}))
	sftp := exec.Command("sftp", append(append([]string{"-q", "-b", "-"}, h.args()...), h.Target())...)
	sftp.Stdin = &batch
	began := time.Now()
	run(t, sftp)
	fmt.Printf("sftp -b, one rm after another: %.0f files a second\n", some/time.Since(began).Seconds())

	left := segmentsIn(t, wal)
	began = time.Now()
	run(t, sh("find "+wal+" -type f -print0 | xargs -0 rm && sync -f "+wal))
	fmt.Printf("find | xargs rm, sync, in place: %.0f files a second\n", float64(left)/time.Since(began).Seconds())
}
