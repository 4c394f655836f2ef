package archive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/stored"
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

// What is not clear is refused, in one line, and nothing is removed.
func TestPruneRefuses(t *testing.T) {
	keep := func(n int) func(*plot) Rules { return func(*plot) Rules { return Rules{KeepBackups: n} } }
	for _, c := range []struct {
		what   string
		before func(*plot, []string)
		rules  func(*plot) Rules
		want   error
		says   string
	}{
		{"a damaged manifest", func(p *plot, ids []string) { p.plant(p.manifest(ids[0]), []byte("x")) }, keep(1), stored.ErrDamaged, "is not whole"},
		{"another backup's manifest", func(p *plot, ids []string) {
			b, _ := p.store.Bytes(p.manifest(ids[0]))
			p.plant(p.manifest(ids[2]), b)
		}, keep(1), stored.ErrDamaged, "it is that of backup"},
		{"a lost part", func(p *plot, ids []string) {
			p.lose(strings.Replace(p.manifest(ids[2]), basebackup.ManifestFile, "base-000001.tar.zst", 1))
		}, keep(1), stored.ErrDamaged, "1500 were stored"},
		{"a damaged history", func(p *plot, _ []string) { p.plant(p.c.Histories()+"/00000002.history.zst", make([]byte, 700)) }, keep(1), stored.ErrDamaged, "00000002.history"},
		{"a gap in a backup that is kept", func(p *plot, ids []string) { p.backup(1, 25, 27); p.lose(p.at(1, 26)) }, keep(1), ErrRefused, "0000000100000006" + "00000002 is missing"},
		{"no history", func(p *plot, _ []string) { p.wal(2, 28, 33); p.backup(2, 30, 30) }, keep(1), ErrRefused, "lacks 00000002.history"},
		{"no way to the newest timeline", func(p *plot, _ []string) { p.wal(2, 1, 6); p.history(2, fork{1, 1}) }, keep(1), ErrRefused, "no backup leads to timeline 2"},
		{"no backup", func(p *plot, ids []string) {
			for _, id := range ids {
				p.lose(p.manifest(id))
			}
		}, keep(1), ErrRefused, "no whole base backup"},
		{"no backup, by age", func(p *plot, ids []string) {
			for _, id := range ids {
				p.lose(p.manifest(id))
				p.old(3*aDay, id)
			}
		}, func(*plot) Rules { return Rules{OlderThan: aDay} }, ErrRefused, "no whole base backup"},
		{"a place in a gap", func(p *plot, _ []string) { p.lose(p.at(1, 2)) }, func(p *plot) Rules {
			return Rules{KeepFrom: keepFrom(p.t, p.name(1, 2).String())}
		}, ErrRefused, "is missing in the archive"},
		{"a place behind the end", func(*plot, []string) {}, func(p *plot) Rules { return Rules{KeepFrom: keepFrom(p.t, "A/0")} }, ErrRefused, "behind the newest segment"},
	} {
		p, ids := threeBackups(t)
		c.before(p, ids)
		names := p.store.Names()
		_, err := p.plan(c.rules(p))
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%s: %v, want %v that says %q", c.what, err, c.want, c.says)
		}
		if transport.Hint(err) == "" && c.want == ErrRefused && !strings.HasPrefix(c.what, "a place") {
			t.Errorf("%s: no hint", c.what)
		}
		if !slices.Equal(names, p.store.Names()) {
			t.Errorf("%s: something was removed", c.what)
		}
	}

	// A backup that cannot be restored may itself expire.
	p, ids := threeBackups(t)
	p.lose(p.at(1, 12))
	p.prune(Rules{KeepBackups: 1})
	p.left(to(22, 30), ids[2])
}

// After a recovery to a point in the past the backups of the timeline that was
// given up are the newest, and yet the one that leads to the new one stays.
func TestPruneNewestTimeline(t *testing.T) {
	p, ids := threeBackups(t)
	p.history(2, fork{1, 8})
	p.wal(2, 8, 12)
	before := p.reaches()
	plan, _ := p.prune(Rules{KeepBackups: 1})
	p.left(to(3, 30), ids[0], ids[2])
	p.unharmed(before, "timeline 2")
	if plan.Held[0].Why != "timeline 2, the newest, can be restored from no other" {
		t.Errorf("%q", plan.Held[0].Why)
	}
	// Its own backup frees that one.
	own := p.backup(2, 11, 12)
	p.prune(Rules{KeepBackups: 1})
	p.left(to(11, 30), own)
	if got := p.segments(2); !slices.Equal(got, to(11, 12)) {
		t.Errorf("of timeline 2 %d are left", got)
	}
}

// Nor does the end of the newest timeline go out of reach behind a hole.
func TestPruneNewestEnd(t *testing.T) {
	p, ids := threeBackups(t)
	p.lose(p.at(1, 18))
	p.old(40*aDay, ids[0])
	p.old(40*aDay, ids[2]) // stored by another host's clock
	plan, _ := p.prune(Rules{OlderThan: 30 * aDay})
	if got := p.backupsLeft(); !slices.Equal(got, ids[1:]) || plan.Held[2].Why != "timeline 1, the newest, can be restored from no other to its end" {
		t.Errorf("left %q: %+v", got, plan.Held)
	}
}

// The WAL that a backup needs may lie on the timeline that left its own behind
// its end, in the segment in which it ends.
func TestPruneBackupAtFork(t *testing.T) {
	p := newPlot(t)
	p.wal(1, 1, 9)
	p.plant(strings.TrimSuffix(p.at(1, 10), ".zst")+".partial.zst", make([]byte, 600))
	p.history(2, fork{1, 10})
	p.wal(2, 10, 20)
	first, last := p.backup(1, 4, 5), p.backup(1, 9, 10)
	p.prune(Rules{KeepBackups: 1})
	p.left(to(9, 9), last)
	if got := p.segments(2); !slices.Equal(got, to(10, 20)) || slices.Contains(p.backupsLeft(), first) {
		t.Errorf("of timeline 2 %d are left", got)
	}
}

// What has changed since the plan was made makes it void.
func TestPruneRecheck(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*plot, []string)
		want   error // nil: it does not matter
	}{
		{"a kept manifest is damaged", func(p *plot, ids []string) { p.plant(p.manifest(ids[1]), []byte("x")) }, stored.ErrDamaged},
		{"a kept manifest is gone", func(p *plot, ids []string) { p.lose(p.manifest(ids[2])) }, stored.ErrDamaged},
		{"a backup has begun before the cut", func(p *plot, _ []string) { p.parts(p.id(1, 8)) }, ErrRefused},
		{"a backup has begun behind it", func(p *plot, _ []string) { p.parts(p.id(1, 28)) }, nil},
		{"the one that expires is gone", func(p *plot, ids []string) { p.lose(p.manifest(ids[0])) }, nil},
	} {
		p, ids := threeBackups(t)
		plan, err := p.plan(Rules{KeepBackups: 2})
		p.ok(err)
		c.change(p, ids)
		names := p.store.Names()
		_, err = p.pruner().Run(t.Context(), plan)
		if c.want == nil && err == nil {
			continue
		}
		if c.want == nil || !errors.Is(err, c.want) || !slices.Equal(names, p.store.Names()) {
			t.Errorf("%s: %v; %d of %d files are left", c.what, err, len(p.store.Names()), len(names))
		}
	}
}

// A folder that looked abandoned and has come to life since is left alone.
func TestPruneNotAbandoned(t *testing.T) {
	for _, base := range []string{"base-000002.tar.zst", basebackup.ManifestFile} {
		p, _ := threeBackups(t)
		dead := p.id(1, 27)
		p.parts(dead)
		p.old(3*aDay, dead.String())
		plan, err := p.plan(Rules{KeepBackups: 2})
		p.ok(err)
		if len(plan.Abandoned) != 1 {
			t.Fatalf("%+v", plan.Abandoned)
		}
		name := basebackup.Folder(p.c, dead) + "/" + base
		p.plant(name, []byte("x"))
		if base == basebackup.ManifestFile {
			p.old(3*aDay, dead.String())
		}
		_, err = p.pruner().Run(t.Context(), plan)
		p.ok(err)
		for _, there := range []string{name, basebackup.Folder(p.c, dead) + "/base-000001.tar.zst"} {
			if _, ok := p.store.Bytes(there); !ok {
				t.Errorf("%s is gone", there)
			}
		}
	}
}

// Each step of the store fails in turn, before it takes effect and after: what
// remains can be restored, and the next prune comes to the end.
func TestPruneFaults(t *testing.T) {
	for _, applied := range []bool{false, true} {
		for n := 0; ; n++ {
			p, ids := threeBackups(t)
			p.label(1, 3, 4)
			p.history(2, fork{1, 26})
			p.wal(2, 26, 31)
			dead := p.id(1, 6)
			p.parts(dead)
			p.old(3*aDay, dead.String())
			// What is left of a backup of today looks like one in progress.
			p.old(2*aDay, ids[0])
			p.old(2*aDay, ids[1])
			before := p.reaches()
			reached := p.store.Fail(n, storetest.Fault{Err: errors.New("fault"), Applied: applied})
			plan, err := p.plan(Rules{KeepBackups: 1})
			if err == nil {
				_, err = p.pruner().Run(t.Context(), plan)
			}
			p.store.Hook(nil)
			p.unharmed(before, fmt.Sprintf("step %d, applied %v", n, applied))
			if !reached() {
				if err != nil || n < 30 {
					t.Errorf("%d steps, %v", n, err)
				}
				p.left(to(22, 30), ids[2])
				break
			}
			if err == nil {
				t.Errorf("step %d, applied %v: no error", n, applied)
			}
			p.prune(Rules{KeepBackups: 1})
			p.left(to(22, 30), ids[2])
			p.unharmed(before, fmt.Sprintf("after step %d, applied %v", n, applied))
		}
	}
}
