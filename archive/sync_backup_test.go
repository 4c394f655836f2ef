package archive

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// pruning is a store in which a prune is at work: it removes names after the n-th
// listing of a folder.
type pruning struct {
	memory
	dir string
	n   int

	mu    sync.Mutex
	names []string
}

func (p *pruning) List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error {
	err := p.memory.List(ctx, dir, fn)
	p.mu.Lock()
	defer p.mu.Unlock()
	if dir == p.dir {
		if p.n--; p.n == 0 {
			if _, err := p.RemoveAll(ctx, p.names); err != nil {
				return err
			}
		}
	}
	return err
}

// Whenever a prune is at work in the archive that is copied to, no call says that
// a backup is there which lacks a part, or WAL that it needs; and when it has
// ended, another call makes all whole.
func TestSyncWhilePruned(t *testing.T) {
	a := newBackups(t, stored.Zstd)
	if _, err := a.Run(t.Context(), a.source().begin); err != nil {
		t.Fatal(err)
	}
	id, err := basebackup.ParseID(a.manifests()[0])
	if err != nil {
		t.Fatal(err)
	}
	folder := basebackup.Folder(a.site.cluster(), id)
	manifest := path.Join(folder, basebackup.ManifestFile)
	var parts, wal []string
	for _, name := range a.store.Names() {
		switch {
		case path.Dir(name) == folder && name != manifest:
			parts = append(parts, name)
		case strings.Contains(name, "/wal/") && strings.Contains(name, segmentName(1, int(a.data.Geometry().Number(id.Start)))):
			wal = append(wal, name)
		}
	}
	if len(parts) < 3 || len(wal) != 1 {
		t.Fatal(parts, wal)
	}
	refused := 0
	for _, removed := range [][]string{parts, parts[:1], parts[len(parts)-1:], wal} {
		for n := 1; n <= 4; n++ {
			to := &pruning{memory: memory{storetest.NewMemory()}, dir: folder, n: n, names: removed}
			for _, name := range a.store.Names() { // what an earlier call has left
				b, _ := a.store.Bytes(name)
				if name == manifest {
					continue
				}
				if err := to.Plant(name, b); err != nil {
					t.Fatal(err)
				}
			}
			copying := &Syncer{From: memory{a.store}, To: to, FromName: "A", ToName: "B", Cluster: a.site.cluster(), Jobs: 2, pauses: []time.Duration{}}
			_, err := copying.Run(t.Context())
			whole := true
			for _, name := range append([]string{manifest}, removed...) {
				_, ok := to.Bytes(name)
				whole = whole && ok
			}
			switch {
			case errors.Is(err, ErrArchive) && strings.HasPrefix(err.Error(), "B: "):
				refused++
			case n < 4 && (err != nil || !whole): // the fourth is the last thing a call does
				t.Errorf("after listing %d: %v, whole %v", n, err, whole)
			}
			if done, err := copying.Run(t.Context()); err != nil || len(done.Faults) > 0 {
				t.Errorf("after listing %d: again: %+v, %v", n, done, err)
			}
			for _, name := range a.store.Names() {
				if _, ok := to.Bytes(name); !ok {
					t.Errorf("after listing %d: again: %s is missing", n, name)
				}
			}
		}
	}
	if refused < 4 {
		t.Errorf("%d were refused", refused)
	}
}

// A prune in the archive that is copied from is no damage.
func TestSyncFromWhilePruned(t *testing.T) {
	a := newBackups(t, stored.Zstd)
	if _, err := a.Run(t.Context(), a.source().begin); err != nil {
		t.Fatal(err)
	}
	folder := path.Join(a.root(), a.manifests()[0])
	var names []string
	for _, name := range a.store.Names() {
		if path.Dir(name) == folder {
			names = append(names, name)
		}
	}
	to := &pruning{memory: memory{storetest.NewMemory()}, dir: "nowhere"}
	from := &vanishing{memory: memory{a.store}, after: path.Join(folder, basebackup.ManifestFile), n: 2, names: names}
	copying := &Syncer{From: from, To: to, Cluster: a.site.cluster(), Jobs: 2, Make: true}
	done, err := copying.Run(t.Context())
	if err != nil || len(done.Faults) > 0 || done.Gone != 1 || done.Backups != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if slices.Contains(to.Names(), path.Join(folder, basebackup.ManifestFile)) {
		t.Error("it was finished")
	}
}

// vanishing is a store from which names go after the n-th look at a file.
type vanishing struct {
	memory
	after string

	mu    sync.Mutex
	n     int
	names []string
}

func (v *vanishing) Head(ctx context.Context, name string, n int) (transport.Head, error) {
	h, err := v.memory.Head(ctx, name, n)
	v.mu.Lock()
	defer v.mu.Unlock()
	if name == v.after {
		if v.n--; v.n == 0 {
			if _, err := v.RemoveAll(ctx, v.names); err != nil {
				return h, err
			}
		}
	}
	return h, err
}

// Without a key, too, an encrypted backup arrives whole: its lists cannot be read,
// and nothing but the manifest tells how much there is.
func TestSyncSealedBackup(t *testing.T) {
	a := newBackups(t, stored.Zstd.Sealed())
	a.Pusher.Recipients, a.Backuper.Recipients = recipientsOf(testIdentity()), recipientsOf(testIdentity())
	if _, err := a.Run(t.Context(), a.source().begin); err != nil {
		t.Fatal(err)
	}
	folder := path.Join(a.root(), a.manifests()[0])
	manifest := path.Join(folder, basebackup.ManifestFile)
	var part string
	for _, name := range a.store.Names() {
		if strings.Contains(name, ".tar.zst.age") {
			part = name
		}
	}
	if part == "" {
		t.Fatal(a.store.Names())
	}
	run := func(dry bool) (*Synced, memory) {
		t.Helper()
		to := memory{storetest.NewMemory()}
		done, err := (&Syncer{From: memory{a.store}, To: to, Cluster: a.site.cluster(), Jobs: 2, Make: true, DryRun: dry, Cleartext: true}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return done, to
	}
	done, to := run(false)
	for _, name := range a.store.Names() {
		if _, ok := to.Bytes(name); !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if dry, _ := run(true); done.Backups != 1 || len(done.Faults) > 0 || dry.Files != done.Files || dry.Bytes != done.Bytes {
		t.Errorf("%+v, dry %+v", done, dry)
	}
	b := &backups{site: &site{t: t, data: a.data, store: to.Memory}}
	if v := b.verify(); len(v.Faults) > 0 {
		t.Errorf("copied: %s", faultsOf(v))
	}

	whole, _ := a.store.Bytes(part)
	for what, b := range map[string][]byte{"cut": whole[:len(whole)-20], "missing": nil, "turned": append(bytes.Clone(whole[:700]), append([]byte{whole[700] ^ 1}, whole[701:]...)...)} {
		if err := a.store.Remove(t.Context(), part); err != nil {
			t.Fatal(err)
		}
		if b != nil {
			if err := a.store.Plant(part, b); err != nil {
				t.Fatal(err)
			}
		}
		done, to := run(false)
		_, there := to.Bytes(manifest)
		if what == "turned" { // only the key shows that, and only the reader has it
			continue
		}
		if there || len(done.Faults) != 1 || done.Faults[0].Kind != Damaged || done.Backups != 0 {
			t.Errorf("%s: manifest there %v, %+v", what, there, done)
		}
		if b == nil {
			if err := a.store.Plant(part, whole); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Another backup under the same name is a conflict, and stays as it is.
func TestSyncAnotherBackup(t *testing.T) {
	var sites [2]*backups
	for i := range sites {
		sites[i] = newBackups(t, stored.Zstd)
		src := sites[i].source()
		src.entries[3].content = bytes.Repeat([]byte{byte(i)}, len(src.entries[3].content))
		if _, err := sites[i].Run(t.Context(), src.begin); err != nil {
			t.Fatal(err)
		}
	}
	a, b := sites[0], sites[1]
	before := make(map[string]string)
	for _, name := range b.store.Names() {
		text, _ := b.store.Bytes(name)
		before[name] = string(text)
	}
	if a.manifests()[0] != b.manifests()[0] {
		t.Fatal(a.manifests(), b.manifests())
	}
	done, err := (&Syncer{From: memory{a.store}, To: memory{b.store}, Cluster: a.site.cluster(), Jobs: 2}).Run(t.Context())
	if err != nil || len(done.Faults) != 1 || done.Faults[0].Kind != Conflict {
		t.Errorf("%+v, %v", done, err)
	}
	for _, name := range b.store.Names() {
		text, _ := b.store.Bytes(name)
		if before[name] != string(text) {
			t.Errorf("%s was changed or added", name)
		}
	}
}

// growing is an archive in which a backup and WAL arrive when its WAL has been listed.
type growing struct {
	memory
	base, log string

	mu    sync.Mutex
	grown bool
}

func (g *growing) List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error {
	g.mu.Lock()
	grown := g.grown
	g.grown = g.grown || dir == g.log
	g.mu.Unlock()
	n := 0
	return g.memory.List(ctx, dir, func(e transport.FileInfo) error {
		if n++; !grown && (dir == g.base || dir == g.log && n > 1) {
			return nil
		}
		return fn(e)
	})
}

// A backup that is finished while WAL is copied is left to the next call, which
// finds its WAL.
func TestSyncBackupMeanwhile(t *testing.T) {
	a := newBackups(t, stored.Zstd)
	if _, err := a.Run(t.Context(), a.source().begin); err != nil {
		t.Fatal(err)
	}
	from := &growing{memory: memory{a.store}, base: a.root(), log: path.Join(a.site.cluster().WAL(), "0000000100000000")}
	to := memory{storetest.NewMemory()}
	copying := &Syncer{From: from, To: to, Cluster: a.site.cluster(), Jobs: 2, Make: true}
	if done, err := copying.Run(t.Context()); err != nil || done.Backups != 0 || done.Files != 1 || len(done.Faults) > 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err := copying.Run(t.Context()); err != nil || done.Backups != 1 || len(to.Names()) != len(a.store.Names()) {
		t.Errorf("again: %+v, %v", done, err)
	}
}
