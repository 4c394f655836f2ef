//go:build bench

package bench

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"walship/internal/testbin"
	"walship/walname"
)

// archived is how many segments are read back: 1 GB of WAL.
const archived = 64

// TestVerify reads an archive in a local folder back, with walship and with zstd,
// which decompresses and neither hashes nor compares anything. Either has as many
// threads as it reads files at once.
func TestVerify(t *testing.T) {
	m := makeMaterial(t)
	walship := testbin.Walship(t)
	root := t.TempDir()
	run(t, call(m, walship, nil, root, "init"))
	first, err := walname.Parse(m.segments[0])
	must(t, err)
	g := walname.Geometry{SegmentSize: walname.DefaultSegmentSize}
	start := g.Number(first.Segment)
	for i := range archived { // the same few, each under names of its own
		s := g.FromNumber(first.Segment.Timeline, start+uint64(i))
		content, err := os.ReadFile(m.path(i))
		must(t, err)
		binary.LittleEndian.PutUint64(content[8:], uint64(g.Start(s))) // xlp_pageaddr
		file := filepath.Join(t.TempDir(), s.String())
		must(t, os.WriteFile(file, content, 0o600))
		run(t, call(m, walship, nil, root, "push", file, s.String()))
		must(t, os.Remove(file))
	}
	var all []*contender
	for _, jobs := range []int{1, 2} {
		all = append(all,
			&contender{name: fmt.Sprintf("zstd -t, %d at once", jobs), run: func(int) *exec.Cmd {
				return sh(fmt.Sprintf("find %s -name '*.zst' -print0 | xargs -0 -P %d -n %d zstd -qt", root, jobs, archived/2/jobs))
			}},
			&contender{name: fmt.Sprintf("walship verify --jobs %d", jobs), run: func(int) *exec.Cmd {
				cmd := call(m, walship, nil, root, "verify", "-q", "--jobs", fmt.Sprint(jobs))
				cmd.Env = append(cmd.Env, fmt.Sprintf("GOMAXPROCS=%d", jobs))
				return cmd
			}})
	}
	measure(t, *rounds, all)
	report(fmt.Sprintf("read %d segments of 16 MB back", archived), all)
	wall := func(i int) float64 { return median(all[i].wall).Seconds() }
	fmt.Printf("of the speed of zstd -t: %.2f with one thread, %.2f with two; from one to two: zstd %.2f, walship %.2f times as fast\n",
		wall(0)/wall(1), wall(2)/wall(3), wall(0)/wall(2), wall(1)/wall(3))
	cpu := func(i int) float64 { return median(all[i].cpu).Seconds() }
	fmt.Printf("by CPU time: %.2f with one thread, %.2f with two\n", cpu(0)/cpu(1), cpu(2)/cpu(3))
}
