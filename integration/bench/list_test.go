//go:build bench

package bench

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/internal/testbin"
	"walship/internal/testsshd"
	"walship/walname"
)

// manySegments makes an archive of n segments whose files are links to a few.
func manySegments(t *testing.T, n uint64) (root string) {
	t.Helper()
	root = t.TempDir()
	must(t, os.Chmod(root, 0o755))
	const perFile = 10_000 // a file has so many names
	var first string
	count := 0
	stock(t, root, layout.Cluster{SystemID: 7710922645055258694}, n, func(_ walname.Segment, name string) {
		if count++; count%perFile == 1 {
			first = name
			must(t, os.WriteFile(name, make([]byte, 4096), 0o644))
			return
		}
		must(t, os.Link(first, name))
	})
	return root
}

// stock makes the folders of an archive of n segments, from the first on. put
// makes the file of each.
func stock(t *testing.T, root string, c layout.Cluster, n uint64, put func(s walname.Segment, name string)) {
	t.Helper()
	for _, dir := range c.Folders() {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	id := layout.Identity{SystemID: c.SystemID, SegmentSize: walname.DefaultSegmentSize, Codec: "zstd", Created: time.Now()}
	must(t, os.WriteFile(filepath.Join(root, c.IdentityFile()), id.Marshal(), 0o644))
	g := walname.Geometry{SegmentSize: walname.DefaultSegmentSize}
	for at := range n {
		s := g.FromNumber(1, at+1)
		name := filepath.Join(root, c.LogFolder(s), s.String()+".zst")
		if at == 0 || s.Seg == 0 {
			must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		}
		put(s, name)
	}
}

// TestList lists a million segments over sshd, and a hundred thousand of them
// over a line of 20 ms. What the machine could do at best is to read the folders
// in place, and to look at each entry once.
func TestList(t *testing.T) {
	walship := testbin.Walship(t)
	srv := testsshd.Start(t, testsshd.Options{})
	for _, c := range []struct {
		segments uint64
		rtt      time.Duration
	}{{1_000_000, 0}, {100_000, 20 * time.Millisecond}, {100_000, 0}} {
		root := manySegments(t, c.segments)
		h := at(t, srv, c.rtt)
		list := func() *exec.Cmd { return call(material{data: "/"}, walship, h, root, "list") }
		began := time.Now()
		out, err := list().CombinedOutput()
		took := time.Since(began)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		memory := peak(t, list())

		began = time.Now()
		entries := 0
		must(t, filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			entries++
			_, err = d.Info()
			return err
		}))
		best := time.Since(began)
		fmt.Printf("list of %d segments, %v round trip: %.1f s, %d MB of memory; reading the folders in place %.1f s\n",
			c.segments, c.rtt, took.Seconds(), memory>>10, best.Seconds())
	}
}
