package archive

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"walship/internal/stored"
	"walship/transport/storetest"
	"walship/walname"
)

// Random archives, pruned by random rules with random interruption: every backup
// that is left restores to every point that it did before, what the plan kept is
// there, and so is the way to the newest timeline.
func TestPruneProperty(t *testing.T) {
	refused, interrupted, removed := 0, 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		p := newPlot(t)
		what := p.grow(r)
		rules := p.randomRules(r)
		what = fmt.Sprintf("seed %d, %s, %+v", seed, what, rules)
		before, names := p.reaches(), p.store.Names()

		plan, err := p.plan(rules)
		if err != nil {
			refused++
			if !errors.Is(err, ErrRefused) && !errors.Is(err, stored.ErrDamaged) || !slices.Equal(names, p.store.Names()) {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		hit := func() bool { return false }
		if r.IntN(2) == 0 {
			hit = p.store.Fail(r.IntN(60), storetest.Fault{Err: errors.New("fault"), Applied: r.IntN(2) == 0})
		}
		_, err = p.pruner().Run(t.Context(), plan)
		p.store.Hook(nil)
		if (err != nil) != hit() {
			t.Errorf("%s: %v, interrupted %v", what, err, hit())
		}
		if hit() {
			interrupted++
		}
		removed += len(names) - len(p.store.Names())
		p.unharmed(before, what)
		p.kept(plan, names, what)
		p.newestKept(plan, before, what)

		// Once more, with what an interruption has left.
		before, names = p.reaches(), p.store.Names()
		if plan, err = p.plan(rules); err == nil {
			_, err = p.pruner().Run(t.Context(), plan)
			p.unharmed(before, what+", again")
			p.kept(plan, names, what+", again")
		}
		if err != nil && !hit() {
			t.Errorf("%s: again: %v", what, err)
		}
		if t.Failed() {
			return
		}
	}
	if refused > 200 || interrupted < 20 || removed < 1000 {
		t.Errorf("%d plans were refused, %d interrupted, %d files removed: the test has lost its point", refused, interrupted, removed)
	}
}

// grow plants an archive with timelines, holes, backups, labels and partials.
func (p *plot) grow(r *rand.Rand) string {
	type branch struct {
		tl          walname.Timeline
		first, last uint64
		forks       []fork
	}
	first := uint64(1 + r.IntN(5))
	lines := []branch{{tl: 1, first: first, last: first + uint64(r.IntN(25))}}
	for len(lines) < 1+r.IntN(4) {
		from := lines[r.IntN(len(lines))]
		n := from.first + uint64(r.IntN(int(from.last-from.first)+1))
		if r.IntN(3) > 0 { // an ordinary failover
			n = from.last
		}
		b := branch{tl: walname.Timeline(len(lines) + 1), first: n, last: n + uint64(r.IntN(12)), forks: append(slices.Clone(from.forks), fork{from.tl, n})}
		lines = append(lines, b)
		p.history(b.tl, b.forks...)
		if r.IntN(3) == 0 {
			p.plant(strings.TrimSuffix(p.at(from.tl, n), ".zst")+".partial.zst", make([]byte, 600))
		}
	}
	for _, b := range lines {
		p.wal(b.tl, b.first, b.last)
	}
	for range r.IntN(3) { // holes
		b := lines[r.IntN(len(lines))]
		name := p.at(b.tl, b.first+uint64(r.IntN(int(b.last-b.first)+1)))
		if _, ok := p.store.Bytes(name); ok {
			p.lose(name)
		}
	}
	for range 1 + r.IntN(5) {
		b := lines[r.IntN(len(lines))]
		n := b.first + uint64(r.IntN(int(b.last-b.first)+1))
		end := n + uint64(r.IntN(3))
		var name string
		switch r.IntN(8) {
		case 0:
			name = p.id(b.tl, n).String()
			p.parts(p.id(b.tl, n))
		case 1, 2:
			name = p.label(b.tl, n, end)
		default:
			name = p.backup(b.tl, n, end)
			if r.IntN(2) == 0 {
				p.label(b.tl, n, end)
			}
		}
		p.old(time.Duration(r.IntN(60*24))*time.Hour, name)
	}
	return fmt.Sprintf("%+v", lines)
}

func (p *plot) randomRules(r *rand.Rand) (rules Rules) {
	if r.IntN(3) > 0 {
		rules.KeepBackups = 1 + r.IntN(3)
	}
	if r.IntN(3) == 0 {
		rules.OlderThan = time.Duration(1+r.IntN(50)) * aDay
	}
	if r.IntN(4) == 0 || rules == (Rules{}) {
		s := p.name(walname.Timeline(1+r.IntN(3)), uint64(1+r.IntN(30)))
		text := s.String()
		switch r.IntN(3) {
		case 0:
			text += ".00000028.backup"
		case 1:
			text = p.g.Start(s).String()
		}
		rules.KeepFrom = keepFrom(p.t, text)
	}
	return rules
}

// kept fails unless all is there that the plan has kept: the backups, those in
// progress included, and every file of WAL from where the first of them begins;
// histories; and enough backups.
func (p *plot) kept(plan *Plan, names []string, when string) {
	p.t.Helper()
	now := p.store.Names()
	from := ^uint64(0)
	stored := 0
	for _, h := range plan.Held {
		if !h.Keep {
			continue
		}
		from = min(from, p.g.Number(p.g.At(h.Timeline, h.Start)))
		if h.Stored && !h.Unfinished {
			stored++
		}
		was := func(n string) bool { return strings.Contains(n, h.Name) }
		if slices.ContainsFunc(names, was) && !slices.ContainsFunc(now, was) {
			p.t.Errorf("%s: %s is gone", when, h.Name)
		}
	}
	whole := 0
	for _, h := range plan.Held {
		if h.Stored && !h.Unfinished {
			whole++
		}
	}
	if stored < min(whole, max(1, plan.Rules.KeepBackups)) {
		p.t.Errorf("%s: %d stored backups of %d are kept", when, stored, whole)
	}
	for _, name := range names {
		f, ok := storedFile(name, fileInfo(name))
		there := slices.Contains(now, name)
		switch {
		case ok && f.Name.Kind == walname.KindHistory && !there:
			p.t.Errorf("%s: %s is gone", when, name)
		case ok && f.Name.Kind == walname.KindSegment && p.g.Number(f.Name.Segment) >= from && !there:
			p.t.Errorf("%s: %s is gone, from segment %d on all is needed", when, name, from)
		}
	}
}

// newestKept fails if the newest timeline could be restored and cannot any more.
func (p *plot) newestKept(plan *Plan, before map[string]uint64, when string) {
	p.t.Helper()
	newest := walname.Timeline(0)
	for _, name := range p.store.Names() {
		if f, ok := storedFile(name, fileInfo(name)); ok && f.Name.Kind == walname.KindSegment {
			newest = max(newest, f.Name.Timeline())
		}
	}
	suffix := fmt.Sprintf(">%d", newest)
	best := func(reach map[string]uint64) (to uint64) {
		for key, n := range reach {
			if strings.HasSuffix(key, suffix) {
				to = max(to, n)
			}
		}
		return to
	}
	if was, is := best(before), best(p.reaches()); is < was {
		p.t.Errorf("%s: timeline %d could be restored up to segment %d, now %d", when, newest, was, is)
	}
}
