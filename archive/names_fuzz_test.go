package archive

import (
	"path"
	"strings"
	"testing"

	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// Whatever a server's listing names: what is taken for a file of walship's has
// exactly the name that walship gives, so no other is ever removed for it.
func FuzzListedNames(f *testing.F) {
	for _, s := range []string{
		"000000010000000A000000FE.zst", "000000010000000A000000FE", "000000010000000A000000FE.deadbeef.partial.zst", "00000002.history.gz",
		"000000010000000A000000FE." + strings.Repeat("0f", 32) + ".sha256", "20261122T033012Z-ok.json", "20261122T033012Z-failed.json",
		"20261322T033012Z-ok.json", "000000010000000A", "..", "", ".zst", "000000010000000A000000FE.zst\n", "/", "../000000010000000A000000FE.zst",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if d, ok := parseDrill(name); ok && d.file() != name {
			t.Errorf("drill %q is %q", name, d.file())
		}
		if log, ok := logFolder(transport.FileInfo{Name: name, IsDir: true}); ok && log.String()[:16] != name {
			t.Errorf("log folder %q is %s", name, log)
		}
		if stem, ok := voucherOf(name); ok && (!strings.HasPrefix(name, stem+".") || len(name) != len(stem)+72) {
			t.Errorf("voucher %q is of %q", name, stem)
		}
		if strings.Contains(name, "/") {
			return // transport lets none through
		}
		c := layout.Cluster{SystemID: 1}
		if got, ok := storedFile(path.Join(c.WAL(), "x", name), transport.FileInfo{Name: name}); ok {
			stem := path.Base(c.Stem(got.Name))
			if got.Name.Kind == walname.KindPartial {
				stem = strings.TrimSuffix(stem, ".partial")
			}
			if !strings.HasPrefix(name, stem) {
				t.Errorf("%q is taken for %s", name, got.Name)
			}
		}
		if n, ok := layout.ParseStored(name, stored.Extensions(stored.Foreign())); ok && !strings.HasPrefix(name, n.String()) {
			t.Errorf("%q is taken for %s", name, n)
		}
		if own, ok := layout.ParseFolder(name); ok && own.Folder() != name {
			t.Errorf("%q is taken for %s", name, own.Folder())
		}
	})
}
