package pgdata

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"walship/walname"
)

// Ready returns the names of the WAL files that wait for the archiver, in the
// order in which it hands them over: by name, from 12 on history files before
// all others. It reads the folder archive_status; what is no WAL file's mark
// there is passed over.
func (d *Dir) Ready() ([]walname.Name, error) {
	f, err := os.Open(filepath.Join(d.WALDir(), "archive_status"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	marks, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var ready []walname.Name
	for _, mark := range marks {
		base, ok := strings.CutSuffix(mark, ".ready")
		if !ok {
			continue
		}
		if n, err := walname.Parse(base); err == nil {
			ready = append(ready, n)
		}
	}
	first := func(n walname.Name) int {
		if n.Kind == walname.KindHistory && d.Version >= version12 {
			return 0
		}
		return 1
	}
	slices.SortFunc(ready, func(a, b walname.Name) int {
		return cmp.Or(first(a)-first(b), strings.Compare(a.String(), b.String()))
	})
	return ready, nil
}
