package archive

import (
	"testing"

	"walship/walname"
)

// Whatever --keep-from is given, it is refused or is a place in WAL.
func FuzzParseKeepFrom(f *testing.F) {
	for _, s := range []string{"", "0/0", "FFFFFFFF/FFFFFFFF", "0/5A000000", "000000010000000200000003", "000000010000000200000003.partial",
		"000000010000000200000003.00000028.backup", "00000002.history", "000000000000000000000000", "x/y", "1/2/3", "00000001FFFFFFFF000000FF"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKeepFrom(s)
		if err != nil {
			return
		}
		if k.String() != s {
			t.Errorf("%q became %q", s, k)
		}
		for _, g := range []walname.Geometry{{SegmentSize: 16 << 20}, {SegmentSize: 1 << 20}, {SegmentSize: 1 << 30}, {SegmentSize: 16 << 20, SkipFF: true}} {
			n, err := k.place(g)
			if err == nil && g.Check(g.FromNumber(1, n)) != nil {
				t.Errorf("%q: segment number %d of %+v", s, n, g)
			}
		}
	})
}
