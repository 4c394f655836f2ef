package archive

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport/storetest"
	"walship/walname"
)

// plot is an archive in memory with segments of 1 GB, of which four make a log.
// Their content is none: pruning goes by names.
type plot struct {
	t     testing.TB
	store *storetest.Memory
	c     layout.Cluster
	g     walname.Geometry
	begun time.Time
}

func newPlot(t testing.TB) *plot {
	t.Helper()
	p := &plot{t: t, store: storetest.NewMemory(), c: layout.Cluster{SystemID: 7710000000000000001},
		g: walname.Geometry{SegmentSize: 1 << 30}, begun: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	id := layout.Identity{SystemID: p.c.SystemID, SegmentSize: p.g.SegmentSize, Codec: "zstd", Created: p.begun}
	p.plant(p.c.IdentityFile(), id.Marshal())
	for _, folder := range p.c.Folders() {
		p.ok(p.store.Mkdir(t.Context(), folder))
	}
	return p
}

func (p *plot) ok(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *plot) plant(name string, data []byte) {
	p.t.Helper()
	p.ok(p.store.Plant(name, data))
}

func (p *plot) name(tl walname.Timeline, n uint64) walname.Segment { return p.g.FromNumber(tl, n) }

func (p *plot) at(tl walname.Timeline, n uint64) string {
	return p.c.Stem(walname.Name{Kind: walname.KindSegment, Segment: p.name(tl, n)}) + ".zst"
}

// wal plants the segments from first to last.
func (p *plot) wal(tl walname.Timeline, first, last uint64) {
	for n := first; n <= last; n++ {
		p.plant(p.at(tl, n), make([]byte, 600))
	}
}

// lose removes a file.
func (p *plot) lose(name string) {
	p.t.Helper()
	p.ok(p.store.Remove(p.t.Context(), name))
}

// stored is content as push stores it.
func (p *plot) stored(name string, content []byte) []byte {
	p.t.Helper()
	e := stored.Encode(bytes.NewReader(content), stored.Zstd, int64(len(content)))
	w := &atWriter{}
	p.ok(e.WriteTo(w, stored.Record{Name: name, SystemID: p.c.SystemID, SegmentSize: p.g.SegmentSize, Time: p.begun}, stored.Seal{}))
	return w.b
}

type atWriter struct{ b []byte }

func (w *atWriter) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(w.b) {
		w.b = append(w.b, make([]byte, need-len(w.b))...)
	}
	return copy(w.b[off:], p), nil
}

// fork is where a timeline was left: within the n-th segment.
type fork struct {
	tl walname.Timeline
	n  uint64
}

func (p *plot) history(tl walname.Timeline, forks ...fork) {
	var text strings.Builder
	for _, f := range forks {
		fmt.Fprintf(&text, "%d\t%s\tno recovery target specified\n", f.tl, p.g.Start(p.name(f.tl, f.n))+0x1000)
	}
	n := walname.Name{Kind: walname.KindHistory, Segment: walname.Segment{Timeline: tl}}
	p.plant(p.c.Stem(n)+".zst", p.stored(n.String(), []byte(text.String())))
}

func (p *plot) id(tl walname.Timeline, n uint64) basebackup.ID {
	return basebackup.ID{Start: p.name(tl, n), Time: p.begun.Add(time.Duration(n) * time.Hour)}
}

// backup plants a base backup that begins in one segment and ends in another.
func (p *plot) backup(tl walname.Timeline, first, last uint64) string {
	p.t.Helper()
	id := p.id(tl, first)
	p.parts(id)
	m := basebackup.Manifest{Backup: id.String(), SystemID: p.c.SystemID, PostgreSQL: "15", SegmentSize: p.g.SegmentSize, Method: "protocol",
		Timeline: tl, StartLSN: p.g.Start(id.Start) + 0x28, EndLSN: p.g.Start(p.name(tl, last)) + 0x100, StoredSize: 1500}
	b, err := m.Marshal()
	p.ok(err)
	p.plant(p.manifest(id.String()), b)
	return id.String()
}

// parts plants the files of a backup without its manifest.
func (p *plot) parts(id basebackup.ID) {
	p.plant(basebackup.Folder(p.c, id)+"/base-000001.tar.zst", make([]byte, 1000))
	p.plant(basebackup.Folder(p.c, id)+"/files-000001.jsonl.zst", make([]byte, 500))
}

func (p *plot) manifest(id string) string {
	return path.Join(basebackup.Root(p.c), id, basebackup.ManifestFile)
}

// label plants the label of a backup, at the position that backup gives one.
func (p *plot) label(tl walname.Timeline, first, last uint64) string {
	n := walname.Name{Kind: walname.KindBackup, Segment: p.name(tl, first), Offset: 0x28}
	text := fmt.Sprintf("START WAL LOCATION: %s (file %s)\nSTOP WAL LOCATION: %s (file %s)\nCHECKPOINT LOCATION: %[1]s\nBACKUP METHOD: streamed\nSTART TIME: x\nLABEL: l\n",
		p.g.Start(n.Segment)+0x28, n.Segment, p.g.Start(p.name(tl, last))+0x100, p.name(tl, last))
	p.plant(p.c.Stem(n)+".zst", p.stored(n.String(), []byte(text)))
	return n.String()
}

// old makes everything of a backup d old.
func (p *plot) old(d time.Duration, part string) {
	for _, name := range p.store.Names() {
		if strings.Contains(name, part) {
			p.ok(p.store.Age(name, d))
		}
	}
	_ = p.store.Age(path.Join(basebackup.Root(p.c), part), d) // the folder, if it is one
}

func (p *plot) pruner() *Pruner { return &Pruner{Store: memory{p.store}, Cluster: p.c} }

func (p *plot) plan(r Rules) (*Plan, error) {
	return p.pruner().Plan(p.t.Context(), r)
}

// prune plans and runs.
func (p *plot) prune(r Rules) (*Plan, Freed) {
	p.t.Helper()
	plan, err := p.plan(r)
	p.ok(err)
	freed, err := p.pruner().Run(p.t.Context(), plan)
	p.ok(err)
	return plan, freed
}

func keepFrom(t testing.TB, s string) *KeepFrom {
	t.Helper()
	k, err := ParseKeepFrom(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// segments lists what there is of a timeline, as places.
func (p *plot) segments(tl walname.Timeline) []uint64 {
	var all []uint64
	for _, name := range p.store.Names() {
		if f, ok := storedFile(name, fileInfo(name)); ok && f.Name.Kind == walname.KindSegment && f.Name.Timeline() == tl {
			all = append(all, p.g.Number(f.Name.Segment))
		}
	}
	return all
}

// backupsLeft lists the backups that have a manifest.
func (p *plot) backupsLeft() []string {
	var all []string
	for _, name := range p.store.Names() {
		if path.Base(name) == basebackup.ManifestFile {
			all = append(all, path.Base(path.Dir(name)))
		}
	}
	return all
}

// The oracle: what PostgreSQL could restore, by its own way of asking. It shares
// nothing with the code under test but the parsers.

// reaches tells up to which segment recovery comes for each backup that has a
// manifest, and each timeline that it may be aimed at: "ID>timeline".
func (p *plot) reaches() map[string]uint64 {
	p.t.Helper()
	there := make(map[walname.Segment]bool)
	histories := make(map[walname.Timeline]walname.History)
	aims := make(map[walname.Timeline]bool)
	var manifests []basebackup.Manifest
	for _, name := range p.store.Names() {
		base := path.Base(name)
		switch n, err := walname.Parse(strings.TrimSuffix(base, ".zst")); {
		case err == nil && n.Kind == walname.KindSegment:
			there[n.Segment] = true
			aims[n.Timeline()] = true
		case err == nil && n.Kind == walname.KindHistory:
			file, _ := p.store.Bytes(name)
			c, err := stored.Decode(bytes.NewReader(file), int64(len(file)), stored.Zstd, maxSmall, nil)
			p.ok(err)
			text, err := io.ReadAll(c)
			p.ok(err)
			h, err := walname.ParseHistory(n.Timeline(), text)
			p.ok(err)
			histories[h.Timeline] = h
			aims[h.Timeline] = true
		case base == basebackup.ManifestFile:
			file, _ := p.store.Bytes(name)
			id, err := basebackup.ParseID(path.Base(path.Dir(name)))
			p.ok(err)
			m, err := basebackup.ParseManifest(file, id)
			p.ok(err)
			for _, part := range []string{"base-000001.tar.zst", "files-000001.jsonl.zst"} {
				if _, ok := p.store.Bytes(path.Dir(name) + "/" + part); !ok {
					p.t.Errorf("backup %s has a manifest and lacks %s", id, part)
				}
			}
			manifests = append(manifests, m)
		}
	}
	reach := make(map[string]uint64)
	for _, m := range manifests {
		for aim := range aims {
			if to, ok := p.recover(m, aim, histories, there); ok {
				reach[fmt.Sprintf("%s>%d", m.Backup, aim)] = to
			}
		}
	}
	return reach
}

// recover reads segment after segment, each from the newest timeline on the way
// that had begun.
func (p *plot) recover(m basebackup.Manifest, aim walname.Timeline, histories map[walname.Timeline]walname.History, there map[walname.Segment]bool) (to uint64, ok bool) {
	h := histories[aim]
	begin := map[walname.Timeline]uint64{m.Timeline: 0} // where each timeline of the way begins
	way := []walname.Timeline{m.Timeline}
	if aim != m.Timeline {
		if _, ok := h.Ancestor(m.Timeline); !ok {
			return 0, false
		}
		for i, a := range h.Ancestors {
			if a.Timeline < m.Timeline {
				continue
			}
			if a.Switch < m.EndLSN {
				return 0, false
			}
			child := aim
			if i+1 < len(h.Ancestors) {
				child = h.Ancestors[i+1].Timeline
			}
			begin[child] = p.g.Number(p.g.At(child, a.Switch))
			way = append(way, child)
		}
	}
	for n := p.g.Number(p.g.At(m.Timeline, m.StartLSN)); ; n++ {
		// What PostgreSQL falls back to where the newest one lacks it is another
		// line's WAL: that is no way.
		tl := m.Timeline
		for _, newer := range way {
			if begin[newer] <= n {
				tl = newer
			}
		}
		if !there[p.name(tl, n)] {
			return n, p.g.Start(p.name(m.Timeline, n)) >= m.EndLSN
		}
	}
}

// unharmed fails if a backup that is still there has lost anything that could
// be restored with it before.
func (p *plot) unharmed(before map[string]uint64, when string) {
	p.t.Helper()
	after := p.reaches()
	left := p.backupsLeft()
	for _, key := range slices.Sorted(maps.Keys(before)) {
		id, _, _ := strings.Cut(key, ">")
		if to, ok := after[key]; slices.Contains(left, id) && (!ok || to != before[key]) {
			p.t.Errorf("%s: %s: recovery reached segment %d, now %d (%v)", when, key, before[key], to, ok)
		}
	}
}
