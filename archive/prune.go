package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"sync"

	"golang.org/x/sync/errgroup"

	"walship/internal/basebackup"
	"walship/internal/fault"
	"walship/internal/layout"
	"walship/transport"
	"walship/walname"
)

// PruneStore is the archive, as far as pruning needs it.
type PruneStore interface {
	BackupStore
	RemoveAll(ctx context.Context, names []string) (int, error)
}

// Pruner removes from the archive of one cluster what no backup that is kept
// needs. What it removes it finds by name, and what it does not know it leaves.
type Pruner struct {
	Store   PruneStore
	Cluster layout.Cluster

	// Progress, if not nil, is told of stored bytes that are gone.
	Progress func(n int64)

	// Say, if not nil, is told in one line what is left although it should go; one
	// line at a time.
	Say func(text string)
}

// Freed is what a Run has removed, as it went, also with an error.
type Freed struct {
	Backups   int   // that had a manifest or a label
	Abandoned int   // folders of backups that had died
	WAL       int64 // files of segments and what belongs to them
	Files     int64 // all stored files
	Bytes     int64 // of all
	Temporary int   // temporary files, which Files and Bytes leave out
}

// batch bounds the files that are removed in one go, whose folders are synced
// once.
const batch = 4096

// Run removes what the plan says. Nil means that it is gone, on stable storage.
// When it is broken off anywhere, every backup that has a manifest is whole, and
// all WAL from the plan's cut on is there: first go the labels and manifests of
// the backups that expire, then their files, then WAL, the oldest first. Nothing
// is removed if the archive has changed since the plan so that it does not hold
// any more; the error then wraps ErrRefused or stored.ErrDamaged.
func (p *Pruner) Run(ctx context.Context, plan *Plan) (freed Freed, err error) {
	fault.At("prune.begin")
	if err := p.recheck(ctx, plan); err != nil {
		return freed, err
	}
	r := &pruneRun{Pruner: p, plan: plan, freed: &freed}
	for _, step := range []func(context.Context) error{r.manifests, r.backups, r.wal, r.leftovers} {
		if err := step(ctx); err != nil {
			return freed, err
		}
	}
	return freed, nil
}

// recheck looks again at what the plan rests on.
func (p *Pruner) recheck(ctx context.Context, plan *Plan) error {
	known := make(map[string]bool)
	for _, a := range plan.Abandoned {
		known[a.Name] = true
	}
	var kept []basebackup.ID
	for _, b := range plan.held {
		if b.Stored {
			known[b.id.String()] = true
		}
		if b.Stored && b.Keep && !b.Unfinished {
			kept = append(kept, b.id)
		}
	}
	err := each(ctx, kept, func(ctx context.Context, id basebackup.ID) error {
		b, err := lookAtBackup(ctx, p.Store, p.Cluster, id)
		if err != nil {
			return err
		}
		return whole(b)
	})
	if err != nil {
		return err
	}
	err = p.Store.List(ctx, basebackup.Root(p.Cluster), func(e transport.FileInfo) error {
		id, err := basebackup.ParseID(e.Name)
		if err == nil && e.IsDir && !known[e.Name] && plan.before(id.Start) {
			return transport.WithHint(fmt.Errorf("%w: backup %s has begun since the plan was made, and needs WAL that would go", ErrRefused, e.Name),
				"run walship prune again")
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// pruneRun is one Run on its way.
type pruneRun struct {
	*Pruner
	plan  *Plan
	freed *Freed

	saying sync.Mutex
}

// files removes files, whose sizes are known, in order.
func (r *pruneRun) files(ctx context.Context, files []Stray) error {
	for len(files) > 0 {
		some := files[:min(len(files), batch)]
		files = files[len(some):]
		names := make([]string, len(some))
		for i, f := range some {
			names[i] = f.Name
		}
		gone, err := r.Store.RemoveAll(ctx, names)
		var bytes int64
		for _, f := range some[:gone] {
			bytes += f.Size
		}
		r.freed.Files += int64(gone)
		r.freed.Bytes += bytes
		if r.Progress != nil {
			r.Progress(bytes)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// manifests makes the backups that expire cease to be backups, the oldest first.
// A label goes before the manifest of the same backup: left alone it would look
// like a backup whose files lie elsewhere.
func (r *pruneRun) manifests(ctx context.Context) error {
	for _, b := range r.plan.Expired() {
		if len(b.labels) > 0 {
			if err := r.files(ctx, b.labels); err != nil {
				return err
			}
			r.freed.WAL += int64(len(b.labels))
			fault.At("prune.label-removed")
		}
		if b.Stored {
			manifest := path.Join(basebackup.Folder(r.Cluster, b.id), basebackup.ManifestFile)
			if err := r.files(ctx, []Stray{{Name: manifest}}); err != nil {
				return err
			}
			fault.At("prune.manifest-removed")
		}
		r.freed.Backups++
	}
	return nil
}

// backups removes the files of the backups that have expired.
func (r *pruneRun) backups(ctx context.Context) error {
	for _, b := range r.plan.Expired() {
		if !b.Stored {
			continue
		}
		folder := basebackup.Folder(r.Cluster, b.id)
		entries, err := r.list(ctx, folder)
		if err != nil {
			return err
		}
		var files []Stray
		for _, e := range entries {
			if !e.IsDir {
				files = append(files, Stray{Name: path.Join(folder, e.Name), Size: e.Size})
			}
		}
		if err := r.files(ctx, files); err != nil {
			return err
		}
		fault.At("prune.parts-removed")
		if err := r.folder(ctx, folder); err != nil {
			return err
		}
		fault.At("prune.folder-removed")
	}
	return nil
}

// folder removes a folder that should be empty. One that is not stays.
func (r *pruneRun) folder(ctx context.Context, dir string) error {
	err := r.Store.RemoveFolder(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrExist):
		if r.Say != nil {
			r.saying.Lock()
			defer r.saying.Unlock()
			r.Say(fmt.Sprintf("%s stays: it holds files that are not walship's, or that have come since", dir))
		}
		return nil
	}
	return err
}

func (r *pruneRun) list(ctx context.Context, dir string) ([]transport.FileInfo, error) {
	return (&taker{Reader: r.Store}).list(ctx, dir)
}

// wal removes WAL before the cut, the oldest first. A folder that lies wholly
// before the cut goes too; an archiver that stores a file there makes it again.
func (r *pruneRun) wal(ctx context.Context) error {
	var files []Stray
	var empty []string
	flush := func() error {
		if err := r.files(ctx, files); err != nil {
			return err
		}
		r.freed.WAL += int64(len(files))
		if len(files) > 0 {
			fault.At("prune.wal-removed")
		}
		var g errgroup.Group
		g.SetLimit(readAhead)
		for _, dir := range empty {
			g.Go(func() error { return r.folder(ctx, dir) })
		}
		files, empty = nil, nil
		return g.Wait()
	}
	err := listInOrder(ctx, r.Store, r.plan.logs, func(dir string, entries []transport.FileInfo) error {
		for _, e := range entries {
			if !e.IsDir && r.plan.goes(dir, e) {
				files = append(files, Stray{Name: path.Join(dir, e.Name), Size: e.Size})
			}
		}
		if log, _ := logFolder(transport.FileInfo{Name: path.Base(dir), IsDir: true}); r.plan.wholly(log) {
			empty = append(empty, dir)
		}
		if len(files) >= batch {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	fault.At("prune.wal-done")
	return nil
}

// leftovers removes what has been given up long ago: folders of backups that have
// died, and temporary files.
func (r *pruneRun) leftovers(ctx context.Context) error {
	for _, a := range r.plan.Abandoned {
		if err := r.abandoned(ctx, a); err != nil {
			return err
		}
	}
	n, err := r.Store.Sweep(ctx, r.Cluster.Tmp(), sweepAge)
	r.freed.Temporary += n
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	fault.At("prune.swept")
	return err
}

// abandoned removes the folder of a backup that has died, if it still looks so.
func (r *pruneRun) abandoned(ctx context.Context, a Abandoned) error {
	folder := path.Join(basebackup.Root(r.Cluster), a.Name)
	entries, err := r.list(ctx, folder)
	if err != nil {
		return err
	}
	var files []Stray
	for _, e := range entries {
		if e.IsDir || e.Name == basebackup.ManifestFile || !r.plan.dead(e.ModTime) {
			return nil
		}
		files = append(files, Stray{Name: path.Join(folder, e.Name), Size: e.Size})
	}
	if err := r.files(ctx, files); err != nil {
		return err
	}
	fault.At("prune.abandoned-removed")
	r.freed.Abandoned++
	return r.folder(ctx, folder)
}

// goes reports whether an entry of a folder of WAL is before the cut. What is no
// file of WAL, or lies in a folder that is not its own, stays.
func (p *Plan) goes(dir string, e transport.FileInfo) bool {
	name := e.Name
	if stem, ok := voucherOf(name); ok {
		name = stem
	}
	f, ok := storedFile(path.Join(dir, name), transport.FileInfo{Name: name})
	if !ok || f.Name.Kind == walname.KindHistory || f.Name.Segment.String()[:16] != path.Base(dir) {
		return false
	}
	return p.before(f.Name.Segment)
}

// before reports whether the segment lies before the cut, on whatever timeline.
func (p *Plan) before(s walname.Segment) bool {
	return p.HasCut && p.geometry.Check(s) == nil && p.geometry.Number(s) < p.cut
}

// wholly reports whether all segments of a log lie before the cut.
func (p *Plan) wholly(log walname.Segment) bool {
	return p.HasCut && p.geometry.FromNumber(1, p.cut).Log > log.Log
}

// sortLogs puts folders of WAL in the order in which they are removed: the oldest
// first, and of one log the lowest timeline.
func sortLogs(dirs []string) {
	key := func(dir string) string { base := path.Base(dir); return base[8:] + base[:8] }
	sort.Slice(dirs, func(i, j int) bool { return key(dirs[i]) < key(dirs[j]) })
}
