package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

func TestDrillName(t *testing.T) {
	for _, d := range []Drill{{noon, true}, {noon.Add(time.Second), false}} {
		if got, ok := parseDrill(d.file()); !ok || got != d {
			t.Errorf("%s: %+v, %v", d.file(), got, ok)
		}
	}
	if name := (Drill{noon, true}).file(); name != "20261122T120000Z-ok.json" {
		t.Error(name)
	}
	for _, name := range []string{"", "-", "20261122T120000Z", "20261122T120000Z-ok", "20261122T120000Z-good.json", "20261322T120000Z-ok.json",
		"20261122T120000Z-ok.json.tmp", "20261122T120000.5Z-ok.json"} {
		if d, ok := parseDrill(name); ok {
			t.Errorf("%q: %+v", name, d)
		}
	}
}

// The newest ten records stay, and the newest of a drill that has passed.
func TestRecordDrill(t *testing.T) {
	s, c := storetest.NewMemory(), layout.Cluster{SystemID: 7}
	if all, err := Drills(t.Context(), memory{s}, c); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if err := s.Plant(c.Drills()+"/notes.txt", []byte("x")); err != nil {
		t.Fatal(err)
	}
	record := func(hour int, passed bool) {
		t.Helper()
		for range 2 { // a second time is nothing
			if err := RecordDrill(t.Context(), memory{s}, c, Drill{noon.Add(time.Duration(hour) * time.Hour), passed}, fmt.Appendf(nil, "%d", hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var want []Drill
	for hour := range 14 {
		passed := hour == 0 || hour == 2
		record(hour, passed)
		if hour == 2 || hour >= 4 {
			want = append(want, Drill{noon.Add(time.Duration(hour) * time.Hour), passed})
		}
	}
	if all, err := Drills(t.Context(), memory{s}, c); err != nil || !slices.Equal(all, want) {
		t.Errorf("%v, %v; want %v", all, err, want)
	}
	if b, ok := s.Bytes(c.Drills() + "/20261122T140000Z-ok.json"); !ok || string(b) != "2" {
		t.Errorf("%q, %v", b, ok)
	}
	record(14, true)
	want = append(want[2:], Drill{noon.Add(14 * time.Hour), true})
	if all, err := Drills(t.Context(), memory{s}, c); err != nil || !slices.Equal(all, want) {
		t.Errorf("%v, %v; want %v", all, err, want)
	}
	if _, ok := s.Bytes(c.Drills() + "/notes.txt"); !ok {
		t.Error("what is not a record is gone")
	}
	if err := RecordDrill(t.Context(), memory{s}, c, Drill{noon, true}, make([]byte, maxDrillSize+1)); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	if err := RecordDrill(t.Context(), readOnly{s}, c, Drill{noon, true}, nil); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}

type readOnly struct{ *storetest.Memory }

func (readOnly) Put(context.Context, string, transport.Source) error { return fs.ErrPermission }

// Nobody else minds the records: list does not show them, verify does not find
// fault with them, prune leaves them.
func TestDrillsAreLeftAlone(t *testing.T) {
	whole := wholeArchive(t, stored.Zstd)
	c := whole.cluster()
	take := func() string {
		t.Helper()
		inv, err := Take(t.Context(), whole.store, c, Look{})
		if err != nil {
			t.Fatal(err)
		}
		return sketch(inv)
	}
	before := take()
	if err := RecordDrill(t.Context(), memory{whole.store}, c, Drill{noon, true}, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if after := take(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if v := whole.verify(); len(v.Faults)+len(v.Warnings) > 0 {
		t.Errorf("%s, %q", faultsOf(v), v.Warnings)
	}

	p, _ := threeBackups(t)
	name := path.Join(p.c.Drills(), Drill{noon, true}.file())
	p.plant(name, []byte("{}"))
	p.old(40*aDay, name)
	p.prune(Rules{KeepBackups: 1})
	if _, ok := p.store.Bytes(name); !ok {
		t.Error("prune has removed the record of a drill")
	}
}
