package archive

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

func TestZZSpeed(t *testing.T) {
	root := "/tmp/h/C2/speed"
	_ = os.RemoveAll(root)
	parts, _ := filepath.Glob("/tmp/h/C2/hand/archive/*/base/*/base-000001.tar.zst")
	tarBytes, err := exec.Command("zstd", "-dcq", parts[0]).Output()
	if err != nil {
		t.Fatal(err)
	}
	page := fixture(t, "15", "000000010000000000000003")[:8192]
	p := newPlot(t)
	p.c.SystemID = dataDir(t, "15").Control.SystemID
	p.g = walname.Geometry{SegmentSize: 16 << 20}
	id := layout.Identity{SystemID: p.c.SystemID, SegmentSize: 16 << 20, Codec: "zstd", Created: p.begun}
	wr := func(name string, b []byte) {
		_ = os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755)
		if err := os.WriteFile(filepath.Join(root, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wr(p.c.IdentityFile(), id.Marshal())
	for _, f := range p.c.Folders() {
		_ = os.MkdirAll(filepath.Join(root, f), 0o755)
	}
	const n = 96
	for i := range uint64(n) {
		s := p.g.FromNumber(1, i+3)
		b := bytes.Repeat(tarBytes, 2)[i*4096:][:16<<20]
		copy(b, page)
		at := uint64(p.g.Start(s))
		for k := range 8 {
			b[8+k] = byte(at >> (8 * k))
		}
		e := stored.Encode(bytes.NewReader(b), stored.Zstd, int64(len(b)))
		w := &atWriter{}
		p.ok(e.WriteTo(w, stored.Record{Name: s.String(), SystemID: p.c.SystemID, SegmentSize: 16 << 20, Version: "15", Time: time.Now()}))
		wr(p.c.LogFolder(s)+"/"+s.String()+".zst", w.b)
	}
	run := func(jobs int) time.Duration {
		v := &Verifier{Store: transport.NewLocal(root, transport.Full), Cluster: p.c, HeaderCheck: true, Jobs: jobs, Scope: Scope{WAL: true, Backups: true}}
		began := time.Now()
		verdict, err := v.Run(t.Context())
		if err != nil || len(verdict.Faults) > 0 {
			t.Fatal(err, faultsOf(verdict))
		}
		return time.Since(began)
	}
	ztest := func(procs int) time.Duration {
		began := time.Now()
		out, err := exec.Command("sh", "-c", fmt.Sprintf("find %s/*/wal -name '*.zst' | xargs -P %d -n %d zstd -tq", root, procs, n/procs)).CombinedOutput()
		if err != nil {
			t.Fatal(string(out))
		}
		return time.Since(began)
	}
	for range 3 {
		a, b, c, d := ztest(1), run(1), ztest(2), run(2)
		t.Logf("1 thread: zstd %v verify %v (%.2f); 2: %v %v (%.2f); scale %.2f", a, b, a.Seconds()/b.Seconds(), c, d, c.Seconds()/d.Seconds(), b.Seconds()/d.Seconds())
	}
}
