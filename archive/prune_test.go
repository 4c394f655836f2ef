package archive

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/transport"
	"walship/transport/storetest"
)

func fileInfo(name string) transport.FileInfo { return transport.FileInfo{Name: name} }

const aDay = 24 * time.Hour

// to lists the numbers from first to last.
func to(first, last uint64) (all []uint64) {
	for n := first; n <= last; n++ {
		all = append(all, n)
	}
	return all
}

// left fails unless just these segments of timeline 1, and these backups, are there.
func (p *plot) left(segments []uint64, backups ...string) {
	p.t.Helper()
	if got := p.segments(1); !slices.Equal(got, segments) {
		p.t.Errorf("segments %d are left, want %d", got, segments)
	}
	if got := p.backupsLeft(); !slices.Equal(got, backups) {
		p.t.Errorf("backups %q are left, want %q", got, backups)
	}
}

// threeBackups has WAL from 1 to 30 and backups in 3, 11 and 22.
func threeBackups(t testing.TB) (p *plot, ids []string) {
	p = newPlot(t)
	p.wal(1, 1, 30)
	return p, []string{p.backup(1, 3, 4), p.backup(1, 11, 13), p.backup(1, 22, 22)}
}

func TestPruneKeepBackups(t *testing.T) {
	p, ids := threeBackups(t)
	before := p.reaches()
	plan, freed := p.prune(Rules{KeepBackups: 2})
	p.left(to(11, 30), ids[1:]...)
	p.unharmed(before, "two kept")
	if want := (Freed{Backups: 1, WAL: 10, Files: 13, Bytes: 10*600 + 1500}); freed != want || plan.Files != 10 || plan.Bytes != 6000 {
		t.Errorf("freed %+v, want %+v; planned %d files, %d bytes", freed, want, plan.Files, plan.Bytes)
	}
	if plan.Cut != p.name(1, 11) || !strings.Contains(plan.CutWhy, ids[1]) {
		t.Errorf("cut %s: %s", plan.Cut, plan.CutWhy)
	}
	p.prune(Rules{KeepBackups: 1})
	p.left(to(22, 30), ids[2])
	if plan, _ := p.prune(Rules{KeepBackups: 1}); !plan.Empty() {
		t.Errorf("there is nothing to do, and yet %+v", plan)
	}
	for _, name := range p.store.Names() {
		if strings.Contains(name, "/wal/0000000100000002") {
			t.Errorf("%s is left", name)
		}
	}
}

// WAL of every timeline before the cut goes, with partials, labels and vouchers;
// histories and what is not known stay, and empty folders go.
func TestPruneWhatGoes(t *testing.T) {
	p, ids := threeBackups(t)
	p.wal(2, 2, 2)
	p.history(2, fork{1, 2})
	p.wal(3, 26, 31)
	p.history(3, fork{1, 26})
	goes := []string{p.at(1, 2) + ".partial.zst", p.at(1, 5)[:len(p.at(1, 5))-4] + ".1a2b3c4d.partial.zst", strings.TrimSuffix(p.at(1, 6), ".zst") + ".gz",
		strings.TrimSuffix(p.at(1, 7), ".zst"), strings.TrimSuffix(p.at(1, 7), ".zst") + "." + strings.Repeat("ab", 32) + ".sha256"}
	goes[0] = strings.TrimSuffix(p.at(1, 2), ".zst") + ".partial.zst"
	stays := []string{p.c.WAL() + "/0000000100000000/README", p.c.WAL() + "/0000000100000001/" + p.name(1, 1).String() + ".zst", p.c.WAL() + "/x",
		p.c.WAL() + "/0000000200000000/00000002.history.zst",
		p.c.WAL() + "/0000000100000000/0000000100000000000000FF.zst"} // no segment has that number here
	for _, name := range append(slices.Clone(goes), stays...) {
		p.plant(name, make([]byte, 600))
	}
	var said []string
	pr := p.pruner()
	pr.Say = func(text string) { said = append(said, text) }
	plan, err := pr.Plan(t.Context(), Rules{KeepBackups: 1})
	p.ok(err)
	freed, err := pr.Run(t.Context(), plan)
	p.ok(err)
	if got := p.backupsLeft(); !slices.Equal(got, ids[2:]) {
		t.Errorf("backups %q are left", got)
	}
	for n := range uint64(30) {
		if _, ok := p.store.Bytes(p.at(1, n+1)); ok != (n+1 >= 22) {
			t.Errorf("segment %d is there: %v", n+1, ok)
		}
	}
	if got := p.segments(2); len(got) != 0 {
		t.Errorf("of timeline 2 %d are left", got)
	}
	if got := p.segments(3); !slices.Equal(got, to(26, 31)) {
		t.Errorf("of timeline 3 %d are left", got)
	}
	for _, name := range goes {
		if _, ok := p.store.Bytes(name); ok {
			t.Errorf("%s is left", name)
		}
	}
	for _, name := range append(stays, p.c.Histories()+"/00000002.history.zst", p.c.Histories()+"/00000003.history.zst") {
		if _, ok := p.store.Bytes(name); !ok {
			t.Errorf("%s is gone", name)
		}
	}
	if freed.WAL != plan.Files {
		t.Errorf("freed %d files, planned %d", freed.WAL, plan.Files)
	}
	if text := strings.Join(said, "\n"); len(said) != 3 || !strings.Contains(text, "0000000100000000 stays") || !strings.Contains(text, "0000000100000001 stays") {
		t.Errorf("said %q", said)
	}
}

func TestPruneOlderThan(t *testing.T) {
	p, ids := threeBackups(t)
	p.old(40*aDay, ids[0])
	p.old(29*aDay, ids[1])
	p.prune(Rules{OlderThan: 30 * aDay})
	p.left(to(11, 30), ids[1:]...)

	// WAL never goes by age alone, and the newest backup never does.
	p.old(100*aDay, "")
	p.prune(Rules{OlderThan: 30 * aDay})
	p.left(to(22, 30), ids[2])

	// Not even just after a promotion, when nothing leads to the newest timeline yet.
	p, ids = threeBackups(t)
	p.history(2, fork{1, 30})
	p.old(100*aDay, "")
	plan, _ := p.prune(Rules{OlderThan: 30 * aDay})
	p.left(to(22, 30), ids[2])
	if plan.Held[2].Why != "the newest one always stays" {
		t.Errorf("%+v", plan.Held[2])
	}

	// A backup goes only if both rules give it up.
	p, ids = threeBackups(t)
	p.old(40*aDay, ids[0])
	p.prune(Rules{OlderThan: 30 * aDay, KeepBackups: 1})
	p.left(to(11, 30), ids[1:]...)
	p.old(40*aDay, ids[1])
	p.prune(Rules{OlderThan: 30 * aDay, KeepBackups: 2})
	p.left(to(11, 30), ids[1:]...)
}

func TestPruneKeepFrom(t *testing.T) {
	for _, c := range []struct {
		from string // "" stands for the name of segment 11
		left uint64 // the first segment that is left; 0: refused
	}{
		{"", 11},
		{"000000010000000200000003", 11},
		{"000000010000000200000003.partial", 11},
		{"000000010000000200000003.00000028.backup", 11},
		{"000000070000000200000003", 11}, // %r knows no timelines
		{"2/C0000000", 11},
		{"2/C0123456", 11},
		{"7/C0000000", 31}, // about to be archived
		{"8/0", 0},
		{"000000010000000200000001", 9},
		{"0/0", 1},
	} {
		p := newPlot(t)
		p.wal(1, 1, 30)
		if c.from == "" {
			c.from = p.name(1, 11).String()
		}
		plan, err := p.plan(Rules{KeepFrom: keepFrom(t, c.from)})
		if c.left == 0 {
			if !errors.Is(err, ErrRefused) {
				t.Errorf("%s: %v", c.from, err)
			}
			continue
		}
		p.ok(err)
		if _, err := p.pruner().Run(t.Context(), plan); err != nil {
			t.Errorf("%s: %v", c.from, err)
		}
		if got := p.segments(1); !slices.Equal(got, to(c.left, 30)) {
			t.Errorf("%s: left %d", c.from, got)
		}
	}
	for _, bad := range []string{"", "x", "00000002.history", "0/", "1/2/3", "000000000000000000000000", "000000010000000200000003.backup"} {
		if _, err := ParseKeepFrom(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// --keep-from never leads across a backup, and where it comes with another rule
// WAL is kept from the older of the two places on.
func TestPruneKeepFromAndBackups(t *testing.T) {
	p, ids := threeBackups(t)
	from := func(n uint64) *KeepFrom { return keepFrom(t, p.name(1, n).String()) }
	p.prune(Rules{KeepFrom: from(20)})
	p.left(to(3, 30), ids...)
	p.prune(Rules{KeepFrom: from(8), KeepBackups: 1})
	p.left(to(8, 30), ids[2])
	p.prune(Rules{KeepFrom: from(25), KeepBackups: 1})
	p.left(to(22, 30), ids[2])

	// The same for a backup that is known by its label alone, unless the place is
	// itself a label: then older labels are given up. What is stored stays.
	p = newPlot(t)
	p.wal(1, 1, 30)
	p.label(1, 3, 4)
	p.label(1, 11, 12)
	p.prune(Rules{KeepFrom: from(20)})
	p.left(to(3, 30))
	p.prune(Rules{KeepFrom: keepFrom(t, p.name(1, 11).String()+".00000028.backup")})
	p.left(to(11, 30))
	id, last := p.backup(1, 12, 12), p.backup(1, 25, 25)
	p.label(1, 20, 20)
	p.prune(Rules{KeepFrom: keepFrom(t, p.name(1, 20).String()+".00000028.backup")})
	p.left(to(12, 30), id, last)
}

// A backup known by its label counts, but takes no stored backup's place.
func TestPruneLabels(t *testing.T) {
	p := newPlot(t)
	p.wal(1, 1, 30)
	p.label(1, 2, 3)
	p.label(1, 9, 9)
	p.label(1, 17, 18)
	p.prune(Rules{KeepBackups: 2})
	p.left(to(9, 30))
	id := p.backup(1, 14, 15)
	p.prune(Rules{KeepBackups: 2})
	p.left(to(14, 30), id)
	p.prune(Rules{KeepBackups: 1})
	p.left(to(14, 30), id)
	p.old(40*aDay, "")
	p.prune(Rules{OlderThan: 30 * aDay})
	p.left(to(14, 30), id)
	plan, err := p.plan(Rules{KeepBackups: 1})
	p.ok(err)
	for _, h := range plan.Held { // the label of 17 has gone
		if !h.Stored {
			t.Errorf("%+v is left", h)
		}
	}
}

// The label of a stored backup is no backup of its own: it goes with it, and
// before its manifest, also where its segment stays.
func TestPruneOwnLabel(t *testing.T) {
	p, ids := threeBackups(t)
	label := p.label(1, 11, 13)
	p.prune(Rules{KeepBackups: 1, KeepFrom: keepFrom(t, p.name(1, 2).String())})
	p.left(to(2, 30), ids[2])
	for _, name := range p.store.Names() {
		if strings.Contains(name, label) {
			t.Errorf("%s is left", name)
		}
	}
	p, ids = threeBackups(t)
	label = p.label(1, 3, 4)
	var order []string
	p.store.Hook(func(s storetest.Step) storetest.Fault {
		if s.Op == "remove" {
			order = append(order, s.Name)
		}
		return storetest.Fault{}
	})
	p.prune(Rules{KeepBackups: 2})
	if len(order) < 4 || !strings.Contains(order[0], label) || order[1] != p.manifest(ids[0]) {
		t.Errorf("removed in this order: %q", order)
	}
	wal := order[4:]
	if !slices.IsSortedFunc(wal, strings.Compare) || !strings.Contains(wal[0], p.name(1, 1).String()) {
		t.Errorf("WAL is removed in this order: %q", wal)
	}
}

// A backup in progress keeps its WAL. One that has died does not, and is swept.
func TestPruneInProgress(t *testing.T) {
	for _, empty := range []bool{false, true} {
		p, ids := threeBackups(t)
		running := p.id(1, 7)
		if empty {
			p.ok(p.store.Mkdir(t.Context(), basebackup.Folder(p.c, running)))
		} else {
			p.parts(running)
		}
		p.old(23*aDay/24, running.String())
		plan, _ := p.prune(Rules{KeepBackups: 1})
		p.left(to(7, 30), ids[2])
		if !strings.Contains(plan.CutWhy, running.String()) {
			t.Error(plan.CutWhy)
		}
		p.old(25*aDay/24, running.String())
		p.prune(Rules{KeepBackups: 1})
		p.left(to(22, 30), ids[2])
		p.old(3*aDay, running.String())
		p.prune(Rules{KeepBackups: 1})
		p.left(to(22, 30), ids[2])
		for _, name := range p.store.Names() {
			if strings.Contains(name, running.String()) {
				t.Errorf("%s is left", name)
			}
		}
	}

	// One young file in it is enough for a backup to be alive.
	p, ids := threeBackups(t)
	running := p.id(1, 7)
	p.parts(running)
	p.old(3*aDay, running.String())
	p.plant(basebackup.Folder(p.c, running)+"/base-000002.tar.zst", nil)
	p.prune(Rules{KeepBackups: 1})
	p.left(to(7, 30), ids[2])
}

// A backup whose end is not archived yet is kept and does not count.
func TestPruneUnfinished(t *testing.T) {
	p, ids := threeBackups(t)
	last := p.backup(1, 29, 31)
	p.prune(Rules{KeepBackups: 1})
	p.left(to(22, 30), ids[2], last)
	p.wal(1, 31, 31)
	p.prune(Rules{KeepBackups: 1})
	p.left(to(29, 31), last)
}
