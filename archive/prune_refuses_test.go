package archive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

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

// A timeline of which only the history is there yet is the newest all the same, and
// such a history does not take the protection from the newest that has WAL.
func TestPruneNewestWithoutWAL(t *testing.T) {
	p, ids := threeBackups(t)
	p.history(2, fork{1, 8})
	plan, _ := p.prune(Rules{KeepBackups: 1})
	p.left(to(3, 30), ids[0], ids[2])
	if plan.Held[0].Why != "timeline 2, the newest, can be restored from no other" {
		t.Errorf("%q", plan.Held[0].Why)
	}

	p, ids = threeBackups(t)
	p.history(2, fork{1, 8})
	p.wal(2, 8, 12)
	p.plant(p.c.Histories()+"/FFFFFFFE.history.zst", p.stored("FFFFFFFE.history", []byte("1\t0/F000000\tadded by somebody\n")))
	p.prune(Rules{KeepBackups: 1})
	p.left(to(3, 30), ids[0], ids[2])
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
