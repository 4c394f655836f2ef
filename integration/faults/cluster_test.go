//go:build linux

package faults_test

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"walship/internal/pgdata"
)

// Segments are of 1 MB, the smallest that PostgreSQL knows, and mostly zeros.
const (
	segmentSize = 1 << 20
	perLog      = 1 << 32 / segmentSize
	// The first few segments cross the border of a log, where a folder is made.
	firstSegment = 2*perLog - 2
)

// fixtures are of a data directory of PostgreSQL 17 with segments of 1 MB.
const fixtures = "../testdata/hostile/17_seg1"

// newData makes as much of a data directory as walship reads.
func newData(t testing.TB, mode pgdata.Mode) (dir string, systemID uint64) {
	t.Helper()
	dir = t.TempDir()
	for _, sub := range []string{"global", "pg_wal"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	packed, err := os.ReadFile(filepath.Join(fixtures, "pg_control.zst"))
	must(t, err)
	d, err := zstd.NewReader(nil)
	must(t, err)
	defer d.Close()
	control, err := d.DecodeAll(packed, nil)
	must(t, err)
	version, err := os.ReadFile(filepath.Join(fixtures, "PG_VERSION"))
	must(t, err)
	files := map[string][]byte{"global/pg_control": control, "PG_VERSION": version, "postgresql.conf": nil}
	switch mode {
	case pgdata.Standby:
		files["standby.signal"] = nil
	case pgdata.ArchiveRecovery:
		files["recovery.signal"] = nil
	}
	for name, content := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	return dir, binary.LittleEndian.Uint64(control)
}

func segmentName(timeline, number uint64) string {
	return fmt.Sprintf("%08X%08X%08X", timeline, number/perLog, number%perLog)
}

// segmentContent is a segment as the server that is called so has written it.
func segmentContent(systemID, timeline, number uint64, who string) []byte {
	b := make([]byte, segmentSize)
	h := fnv.New64a()
	fmt.Fprint(h, who, timeline)
	random := rand.New(rand.NewPCG(h.Sum64(), number))
	for i := 0; i < 48<<10; i += 8 { // more than one packet of SFTP
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	le := binary.LittleEndian
	le.PutUint16(b, 0xD116) // PostgreSQL 17
	le.PutUint16(b[2:], 2)  // a long header
	le.PutUint32(b[4:], uint32(timeline))
	le.PutUint64(b[8:], number*segmentSize)
	le.PutUint64(b[16:], 0)
	le.PutUint64(b[24:], systemID)
	le.PutUint32(b[32:], segmentSize)
	le.PutUint32(b[36:], 8192)
	return b
}

// historyContent is the history of timeline 2, which left the first one in the
// segment of that number.
func historyContent(number uint64, who string) []byte {
	at := number*segmentSize + 0x1000
	return fmt.Appendf(nil, "1\t%X/%08X\tno recovery target specified, says %s\n", at>>32, uint32(at), who)
}
