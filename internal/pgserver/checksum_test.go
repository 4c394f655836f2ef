package pgserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"walship/internal/basebackup"
)

// goldenPage is block 1 of a table of a PostgreSQL 15 cluster with checksums.
func goldenPage(t testing.TB) []byte {
	t.Helper()
	page, err := os.ReadFile("testdata/page-15-block-1")
	must(t, err)
	return page
}

func TestPageChecksum(t *testing.T) {
	page := goldenPage(t)
	want := binary.LittleEndian.Uint16(page[atChecksum:])
	if got := pageChecksum(page, 1); got != want {
		t.Fatalf("%d instead of %d", got, want)
	}
	if pageChecksum(page, 2) == want {
		t.Error("block 2 has the checksum of block 1")
	}
	page[atChecksum] ^= 0xFF
	if got := pageChecksum(page, 1); got != want {
		t.Errorf("the checksum's own field counts: %d", got)
	}
}

// FuzzPageChecksum flips one bit of a real page, which must show.
func FuzzPageChecksum(f *testing.F) {
	page := goldenPage(f)
	for _, bit := range []uint32{0, 63, 80, 100, 8191 * 8, 65535, 40000} {
		f.Add(bit)
	}
	f.Fuzz(func(t *testing.T, bit uint32) {
		bit %= uint32(len(page) * 8)
		if bit/16 == atChecksum/2 {
			return
		}
		changed := bytes.Clone(page)
		changed[bit/8] ^= 1 << (bit % 8)
		if pageChecksum(changed, 1) == binary.LittleEndian.Uint16(page[atChecksum:]) {
			t.Errorf("bit %d changes nothing", bit)
		}
	})
}

func BenchmarkPageChecksum(b *testing.B) {
	page := goldenPage(b)
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		pageChecksum(page, 1)
	}
}

func TestSegmentOf(t *testing.T) {
	for path, want := range map[string]int64{
		"base/5/16384": 0, "base/5/16384.7": 7, "base/5/16384_vm": 0, "base/5/16384_fsm.1": 1, "global/1262": 0,
		"base/5/PG_VERSION": -1, "base/5/pg_filenode.map": -1, "global/pg_control": -1, "base/5/t3_16384": -1, "16384": -1,
		"pg_xact/0000": -1, "base/16384": -1, "base/5/16384_x": -1, "base/5/16384.": -1, "PG_15_202209061/5/16384": -1,
		"pg_multixact/members/0000": -1, "base/5/16384.99999999999": -1,
	} {
		if n, ok := segmentOf(basebackup.Entry{Path: path}); ok != (want >= 0) || ok && n != want {
			t.Errorf("%s: %d, %v", path, n, ok)
		}
	}
	if n, ok := segmentOf(basebackup.Entry{Path: "PG_15_202209061/5/16384.2", Tablespace: 9}); n != 2 || !ok {
		t.Error(n, ok)
	}
	if _, ok := segmentOf(basebackup.Entry{Path: "base/5/16384", Type: basebackup.Dir}); ok {
		t.Error("a folder has pages")
	}
}

func TestVerifier(t *testing.T) {
	good := goldenPage(t)
	bad := bytes.Clone(good)
	bad[5000] ^= 1
	zero := make([]byte, len(good))
	odd := bytes.Clone(zero) // as a page looks half of which has been written
	odd[6000] = 1
	recent := bytes.Clone(bad)
	copy(recent[atLSN:], "\xFF\xFF\xFF\x7F")

	const gone = "gone"
	for name, c := range map[string]struct {
		page  []byte
		again any // what is read again, gone, or an error
		says  string
	}{
		"good":                     {good, nil, ""},
		"new":                      {zero, nil, ""},
		"written since":            {recent, nil, ""},
		"torn":                     {bad, good, ""},
		"torn, written since":      {bad, recent, ""},
		"half new":                 {odd, good, ""},
		"half new, not seen again": {odd, gone, ""},
		"damaged":                  {bad, bad, "base/5/16384.1, block 131073: its checksum is"},
		"damaged, not seen again":  {bad, gone, "block 131073"},
		"no page":                  {odd, odd, "block 131073: its header is empty"},
		"unreadable":               {bad, os.ErrPermission, "permission"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, chunk := range []int{1 << 20, 8192, 8191, 100} {
				v := &verifier{start: 1 << 40, block: 8192, relation: 131072, page: make([]byte, 0, 8192)}
				v.again = func(e basebackup.Entry, at int64, try int, page []byte) (bool, error) {
					if at != 8192 {
						t.Errorf("offset %d is read again", at)
					}
					switch again := c.again.(type) {
					case error:
						return false, again
					case []byte:
						copy(page, again)
						return true, nil
					case nil:
						t.Error("it was read again")
					}
					return false, nil
				}
				v.begin(basebackup.Entry{Path: "base/5/16384.1"})
				// A page has the checksum of its own place, which is here that of block 131073.
				file := append(append(bytes.Clone(zero), place(c.page)...), "a torn end"...)
				if again, ok := c.again.([]byte); ok {
					c.again = place(again)
				}
				var err error
				for len(file) > 0 && err == nil {
					n := min(chunk, len(file))
					err = v.write(file[:n])
					file = file[n:]
				}
				if err == nil {
					err = v.end()
				}
				if (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("%d bytes at a time: %v", chunk, err)
				}
				if strings.Contains(c.says, "block") && !errors.Is(err, ErrChecksum) {
					t.Error(err)
				}
			}
		})
	}
}

// place changes the checksum of a page, right or wrong, from block 1 to 131073:
// the block's number goes into it by a sum modulo 65535.
func place(page []byte) []byte {
	page = bytes.Clone(page)
	if binary.LittleEndian.Uint16(page[atUpper:]) == 0 {
		return page
	}
	sum := binary.LittleEndian.Uint16(page[atChecksum:])
	if sum == pageChecksum(page, 1) {
		binary.LittleEndian.PutUint16(page[atChecksum:], pageChecksum(page, 131073))
	}
	return page
}
