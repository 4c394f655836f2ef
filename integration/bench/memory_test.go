//go:build bench

package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// TestMemory measures the peak memory of push and fetch for segments of 16 MB
// and of 1 GB, of content that compresses badly.
func TestMemory(t *testing.T) {
	srv := testsshd.Start(t, testsshd.Options{})
	h := at(t, srv, 0)
	walship := testbin.Walship(t)
	fmt.Printf("\npeak memory\n")
	for _, size := range []int64{16 << 20, 1 << 30} {
		pg := testpg.New(t, testpg.Options{SegmentMB: int(size >> 20)})
		m := material{data: t.TempDir(), segments: []string{"000000010000000000000001"}}
		must(t, os.MkdirAll(filepath.Join(m.data, "pg_wal"), 0o755))
		must(t, os.MkdirAll(filepath.Join(m.data, "global"), 0o755))
		for _, f := range []string{"PG_VERSION", "global/pg_control"} {
			must(t, exec.Command("cp", filepath.Join(pg.Data, f), filepath.Join(m.data, f)).Run())
		}
		fill(t, m.path(0), filepath.Join(pg.Data, "pg_wal", m.segments[0]), size)

		root := t.TempDir()
		must(t, call(m, walship, h, root, "init").Run())
		for _, cmd := range []*exec.Cmd{
			call(m, walship, h, root, "push", "pg_wal/"+m.name(0), m.name(0)),
			call(m, walship, h, root, "fetch", m.name(0), filepath.Join(root, "out")),
		} {
			fmt.Printf("%-6s %5d MB segment: %3d MB\n", cmd.Args[1], size>>20, peak(t, cmd)>>10)
		}
	}
}

// peak runs a command and returns the most memory that it had, in KiB. A process
// counts as its own what the one that started it had, so a small one starts it.
func peak(t *testing.T, cmd *exec.Cmd) int64 {
	result := filepath.Join(testpg.Dir(t), "peak") // the command may be the server's user's
	must(t, testpg.Own(filepath.Dir(result)))
	timed := exec.Command("time", append([]string{"-f", "%M", "-o", result}, cmd.Args...)...)
	timed.Env, timed.Dir, timed.SysProcAttr = cmd.Env, cmd.Dir, cmd.SysProcAttr
	if out, err := timed.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	text, err := os.ReadFile(result)
	must(t, err)
	kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	must(t, err)
	return kib
}

// fill writes a segment: a real header, then bytes of which every other is random.
func fill(t *testing.T, path, headerFrom string, size int64) {
	header := make([]byte, 64)
	h, err := os.Open(headerFrom)
	must(t, err)
	_, err = h.Read(header)
	must(t, err)
	must(t, h.Close())
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	r := rand.New(rand.NewSource(1))
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(buf)) {
		for i := 0; i < len(buf); i += 8 {
			binary.LittleEndian.PutUint64(buf[i:], r.Uint64()&0x00ff00ff00ff00ff)
		}
		if off == 0 {
			copy(buf, header)
		}
		_, err := f.Write(buf)
		must(t, err)
	}
}
