package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"sync"
	"time"

	"walship/internal/async"
	"walship/internal/basebackup"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// readAhead is how many files are read at once.
const readAhead = 16

// each calls fn with each item, several at once, and returns the first error.
func each[T any](ctx context.Context, items []T, fn func(context.Context, T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan struct{}, readAhead)
	var all []*async.Result[struct{}]
	for _, item := range items {
		slots <- struct{}{}
		all = append(all, async.Go(func() (none struct{}, err error) {
			defer func() { <-slots }()
			if err = fn(ctx, item); err != nil {
				cancel()
			}
			return none, err
		}))
	}
	var first error
	for _, r := range all {
		_, err := r.Wait()
		if err != nil && (first == nil || errors.Is(first, context.Canceled)) {
			first = err
		}
	}
	return first
}

// histories reads the history files.
func (t *taker) histories(ctx context.Context) error {
	dir := t.inv.Cluster.Histories()
	entries, err := t.list(ctx, dir)
	if err != nil {
		return err
	}
	var files []StoredFile
	for _, e := range entries {
		where := path.Join(dir, e.Name)
		f, ok := storedFile(where, e)
		_, isVoucher := voucherOf(e.Name)
		switch {
		case isVoucher:
		case !ok || f.Name.Kind != walname.KindHistory:
			t.inv.Strays.add(where, e)
		default:
			files = append(files, f)
			if t.look.Each != nil && !f.ModTime.Before(t.look.Since) {
				if err := t.look.Each(f); err != nil {
					return err
				}
			}
		}
	}
	var mu sync.Mutex
	return each(ctx, files, func(ctx context.Context, f StoredFile) error {
		h, err := readHistory(ctx, t, f)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since
		case errors.Is(err, stored.ErrDamaged):
			t.broken(f.Stored, "%v", err)
			t.timeline(f.Name.Timeline())
		case err != nil:
			return err
		default:
			t.timeline(f.Name.Timeline()).History = &h
		}
		return nil
	})
}

// readHistory reads a stored history file. What is wrong with its content wraps
// stored.ErrDamaged.
func readHistory(ctx context.Context, s Reader, f StoredFile) (walname.History, error) {
	remote, err := s.Open(ctx, f.Stored)
	if err != nil {
		return walname.History{}, err
	}
	defer remote.Close()
	codec := stored.CodecOf(f.Stored)
	if codec.IsSealed() {
		return toldHistory(remote, f)
	}
	content, err := stored.Decode(stored.Source(remote), remote.Size(), codec, maxSmall, nil)
	if err != nil {
		return walname.History{}, err
	}
	defer content.Close()
	data, err := io.ReadAll(content)
	if err != nil {
		return walname.History{}, err
	}
	if content.HasRecord && content.Record.Name != f.Name.String() {
		return walname.History{}, fmt.Errorf("%w: its record says that it is %q", stored.ErrDamaged, content.Record.Name)
	}
	h, err := walname.ParseHistory(f.Name.Timeline(), data)
	if err != nil {
		return h, fmt.Errorf("%w: %w", stored.ErrDamaged, err)
	}
	return h, nil
}

// toldHistory is what the header of an encrypted history tells of it: all but the
// reasons. The key is not needed.
func toldHistory(remote transport.File, f StoredFile) (walname.History, error) {
	front, err := io.ReadAll(io.LimitReader(remote, 2*maxSmall))
	if err != nil {
		return walname.History{}, err
	}
	r, err := stored.ParseHead(front, remote.Size())
	if err != nil && !errors.Is(err, stored.ErrNoRecord) {
		return walname.History{}, err
	}
	if err != nil || r.Name != f.Name.String() {
		return walname.History{}, fmt.Errorf("%w: it carries no record of its own, but one of %q", stored.ErrDamaged, r.Name)
	}
	// The record vouches for what is told, but for it only the whole file does.
	if _, err := stored.CheckSealed(bytes.NewReader(front), remote.Size()); err != nil {
		return walname.History{}, err
	}
	h, err := walname.ParseHistory(f.Name.Timeline(), stored.Told(front))
	if err != nil {
		return h, fmt.Errorf("%w: its header does not tell where the timelines fork: %w", stored.ErrDamaged, err)
	}
	return h, nil
}

// backups looks at the folders of base backups.
func (t *taker) backups(ctx context.Context) error {
	root := basebackup.Root(t.inv.Cluster)
	entries, err := t.list(ctx, root)
	if err != nil {
		return err
	}
	var ids []basebackup.ID
	for _, e := range entries {
		id, err := basebackup.ParseID(e.Name)
		if err != nil || !e.IsDir {
			t.inv.Strays.add(path.Join(root, e.Name), e)
			continue
		}
		ids = append(ids, id)
	}
	var mu sync.Mutex
	return each(ctx, ids, func(ctx context.Context, id basebackup.ID) error {
		b, err := lookAtBackup(ctx, t, t.inv.Cluster, id)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && b.Files > 0 { // an empty folder is nothing
			t.inv.Backups = append(t.inv.Backups, b)
		}
		return err
	})
}

// lookAtBackup lists a backup's folder and reads its manifest.
func lookAtBackup(ctx context.Context, s Reader, c layout.Cluster, id basebackup.ID) (Backup, error) {
	b := Backup{ID: id}
	dir := basebackup.Folder(c, id)
	there := false
	var content int64 // bytes of all but the manifest
	err := s.List(ctx, dir, func(e transport.FileInfo) error {
		b.Files++
		b.Stored += e.Size
		if e.Name == basebackup.ManifestFile {
			there = true
		} else {
			content += e.Size
		}
		if e.ModTime.After(b.Written) {
			b.Written = e.ModTime.Truncate(time.Second)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if !there {
		return b, nil
	}
	head, err := s.Head(ctx, path.Join(dir, basebackup.ManifestFile), basebackup.MaxManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	m, err := basebackup.ParseManifest(head.Data, id)
	switch {
	case err != nil:
		b.Damage = "its manifest: " + err.Error()
	case m.SystemID != c.SystemID:
		b.Damage = fmt.Sprintf("its manifest says that it is of cluster %d", m.SystemID)
	default:
		b.Manifest = &m
		switch text := fmt.Sprintf("its files have %d bytes, %d were stored", content, m.StoredSize); {
		case content > m.StoredSize:
			b.Damage = text + "; what is there too much is passed over by restore, and should be removed"
		case content < m.StoredSize:
			b.Damage = text
		}
	}
	return b, nil
}

// others looks at refused/ and tmp/.
func (t *taker) others(ctx context.Context) error {
	refused, err := t.list(ctx, t.inv.Cluster.Refused())
	if err != nil {
		return err
	}
	for _, e := range refused {
		if _, ok := voucherOf(e.Name); !ok {
			t.inv.Refused = append(t.inv.Refused, Stray{e.Name, e.Size, e.ModTime.Truncate(time.Second)})
		}
	}
	err = t.List(ctx, t.inv.Cluster.Tmp(), func(e transport.FileInfo) error {
		t.inv.Temporary.add(path.Join(t.inv.Cluster.Tmp(), e.Name), e)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Root is what lies in an archive's topmost folder.
type Root struct {
	Clusters []layout.Cluster // those with a folder, whatever it holds; by number

	// Flat is WAL that another tool has left in the root itself.
	Flat Strays
	// FlatFirst and FlatLast are the first and the last segment of it.
	FlatFirst, FlatLast walname.Segment
}

// LookAtRoot tells which clusters an archive holds. A root that is absent is an
// error that wraps fs.ErrNotExist.
func LookAtRoot(ctx context.Context, s Reader) (Root, error) {
	var r Root
	err := s.List(ctx, ".", func(e transport.FileInfo) error {
		if c, ok := layout.ParseFolder(e.Name); ok && e.IsDir {
			r.Clusters = append(r.Clusters, c)
			return nil
		}
		n, ok := layout.ParseStored(e.Name, stored.Extensions(stored.Foreign()))
		if !ok || e.IsDir {
			return nil
		}
		r.Flat.add(e.Name, e)
		if n.Kind != walname.KindSegment {
			return nil
		}
		if r.FlatFirst == (walname.Segment{}) || n.Segment.String() < r.FlatFirst.String() {
			r.FlatFirst = n.Segment
		}
		if n.Segment.String() > r.FlatLast.String() {
			r.FlatLast = n.Segment
		}
		return nil
	})
	sort.Slice(r.Clusters, func(i, j int) bool { return r.Clusters[i].SystemID < r.Clusters[j].SystemID })
	return r, err
}
