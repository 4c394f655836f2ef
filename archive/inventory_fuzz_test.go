package archive

import (
	"path"
	"strings"
	"testing"

	"walship/transport"
	"walship/walname"
)

// Whatever a name is, what is taken for a file of WAL prints the name that it
// begins with, and no voucher is taken for one.
func FuzzStoredFile(f *testing.F) {
	for _, name := range []string{
		"000000010000000000000002.zst", "000000010000000000000002", "000000010000000000000002.partial.gz", "000000010000000000000002.0badc0de.partial.zst",
		"000000010000000000000002.00000028.backup", "00000002.history.zst", "000000010000000000000002." + strings.Repeat("0a", 32) + ".sha256",
		"000000010000000000000002.0badc0de.zst", "a.0badc0de.partial", "..partial", ".sha256",
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, base string) {
		if base != path.Base(base) || base == "." {
			return
		}
		file, ok := storedFile("1/wal/x/"+base, transport.FileInfo{Name: base})
		stem, isVoucher := voucherOf(base)
		if isVoucher && (len(stem) >= len(base) || ok) {
			t.Errorf("%q is a voucher for %q; a file: %v", base, stem, ok)
		}
		if !ok {
			return
		}
		name := file.Name.String()
		second := file.Name.Kind == walname.KindPartial && strings.HasPrefix(base, file.Name.Segment.String()+".")
		if !strings.HasPrefix(base, name) && !second {
			t.Errorf("%q is taken for %s", base, name)
		}
	})
}
