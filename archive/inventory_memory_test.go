package archive

import (
	"context"
	"fmt"
	"path"
	"runtime"
	"strings"
	"testing"

	"walship/internal/stored"
	"walship/transport"
)

// many is an archive of countless segments that exist only as names.
type many struct {
	*stock
	logs, perLog uint32
}

func (m many) List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error {
	switch {
	case dir == m.WAL():
		for log := range m.logs {
			if err := fn(transport.FileInfo{Name: fmt.Sprintf("00000001%08X", log), IsDir: true}); err != nil {
				return err
			}
		}
	case strings.HasPrefix(dir, m.WAL()+"/"):
		for seg := range m.perLog {
			if err := fn(transport.FileInfo{Name: fmt.Sprintf("%s%08X.zst", path.Base(dir), seg), Size: 4_000_000, ModTime: noon}); err != nil {
				return err
			}
		}
	default:
		return m.stock.List(ctx, dir, fn)
	}
	return nil
}

// Memory does not grow with the number of segments.
func TestInventoryMemory(t *testing.T) {
	const logs, perLog = 200, 256
	m := many{newStock(t, mb16, stored.Zstd), logs, perLog}
	m.plant(m.WAL()+"/00000001000000C7/00000001000000C7000000FF.zst", make([]byte, 600)) // the one whose head is read
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	inv, err := Take(t.Context(), m, m.Cluster, Look{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if tl := inv.Timelines[0]; tl.Count != logs*perLog || len(tl.Runs) != 1 {
		t.Fatalf("%d segments in %d runs", tl.Count, len(tl.Runs))
	}
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 1<<20 {
		t.Errorf("%d bytes are kept", kept)
	}
	runtime.KeepAlive(inv)
}
