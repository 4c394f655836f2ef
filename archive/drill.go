package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"walship/internal/layout"
	"walship/transport"
)

// drillsKept is how many records of drills an archive keeps.
const drillsKept = 10

// maxDrillSize bounds what is stored of a drill, bytes.
const maxDrillSize = 1 << 20

// drillForm is how a record's name begins.
const drillForm = "20060102T150405Z"

// Drill is a drill of which the archive has a record: a restore that was tried.
type Drill struct {
	Time   time.Time // when it began, UTC, to the second, by the clock of the machine that it took place on
	Passed bool
}

// file is the record's base name.
func (d Drill) file() string {
	outcome := "failed"
	if d.Passed {
		outcome = "ok"
	}
	return d.Time.UTC().Format(drillForm) + "-" + outcome + ".json"
}

// parseDrill reads the base name of a record.
func parseDrill(base string) (d Drill, ok bool) {
	at, outcome, _ := strings.Cut(base, "-")
	t, err := time.Parse(drillForm, at)
	d = Drill{t, outcome == "ok.json"}
	return d, err == nil && d.file() == base
}

// DrillStore is the archive, as far as recording a drill needs it.
type DrillStore interface {
	Put(ctx context.Context, name string, src transport.Source) error
	List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error
	RemoveAll(ctx context.Context, names []string) (int, error)
}

// RecordDrill stores text as the record of a drill of the cluster c, and removes
// older records: the newest ten stay, and the newest one of a drill that has
// passed. The archive of the cluster must be there. A record of the same outcome
// and second is left as it is. Where nothing may be removed, older ones stay.
func RecordDrill(ctx context.Context, s DrillStore, c layout.Cluster, d Drill, text []byte) error {
	if len(text) > maxDrillSize {
		return fmt.Errorf("%w: the record of a drill has %d bytes", ErrRefused, len(text))
	}
	err := s.Put(ctx, path.Join(c.Drills(), d.file()), transport.Source{Write: func(w io.WriterAt) error {
		_, err := w.WriteAt(text, 0)
		return err
	}})
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	all, err := Drills(ctx, s, c)
	if err != nil {
		return err
	}
	var old []string
	passed := false
	for i := len(all) - 1; i >= 0; i-- {
		newestPassed := all[i].Passed && !passed
		passed = passed || all[i].Passed
		if i < len(all)-drillsKept && !newestPassed {
			old = append(old, path.Join(c.Drills(), all[i].file()))
		}
	}
	if len(old) == 0 {
		return nil
	}
	if _, err = s.RemoveAll(ctx, old); errors.Is(err, fs.ErrPermission) {
		return nil // an account that may only add; the next one that may remove does it
	}
	return err
}

// Drills lists the drills of the cluster c that the archive has a record of, the
// oldest first. An archive without any is not an error.
func Drills(ctx context.Context, s interface {
	List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error
}, c layout.Cluster) (all []Drill, err error) {
	err = s.List(ctx, c.Drills(), func(e transport.FileInfo) error {
		if d, ok := parseDrill(e.Name); ok && !e.IsDir {
			all = append(all, d)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	sort.Slice(all, func(i, j int) bool { return all[i].file() < all[j].file() })
	return all, err
}
