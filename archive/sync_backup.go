package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"walship/internal/basebackup"
	"walship/internal/fault"
	"walship/internal/stored"
	"walship/transport"
)

// missingBackup is a base backup that From has, and that To may not have, or not whole.
type missingBackup struct {
	Backup
	sizes map[string]int64 // of the files that To has of it
	bytes int64            // of them
}

// missingBackups are the backups of From, the newest first, with what To has of each.
func (r *syncing) missingBackups(ctx context.Context) (all []missingBackup, err error) {
	t := &taker{Reader: r.From, inv: &Inventory{Cluster: r.Cluster}}
	if err := t.backups(ctx); err != nil {
		return nil, r.from(err)
	}
	inv := t.finish()
	for i := len(inv.Backups) - 1; i >= 0; i-- {
		b := missingBackup{Backup: inv.Backups[i], sizes: make(map[string]int64)}
		if b.Manifest == nil && b.Damage == "" {
			continue // in progress, or what is left of one
		}
		if err := b.list(ctx, r); err != nil {
			return nil, r.to(err)
		}
		all = append(all, b)
	}
	return all, nil
}

// list looks at what To has of it.
func (b *missingBackup) list(ctx context.Context, r *syncing) error {
	b.sizes, b.bytes = make(map[string]int64), 0
	err := r.To.List(ctx, basebackup.Folder(r.Cluster, b.ID), func(e transport.FileInfo) error {
		b.sizes[e.Name] = e.Size
		b.bytes += e.Size
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// backups copies the base backups, one after the other, several files at once.
func (r *syncing) backups(ctx context.Context, all []missingBackup) error {
	for _, b := range all {
		folder := basebackup.Folder(r.Cluster, b.ID)
		manifest := path.Join(folder, basebackup.ManifestFile)
		if b.Manifest == nil {
			r.damaged(manifest, errors.New(b.Damage))
			continue
		}
		c := &backupCopy{syncing: r, missingBackup: b, folder: folder, names: make(map[string]int64)}
		if err := c.run(ctx, manifest); err != nil {
			return err
		}
	}
	return nil
}

// backupCopy is one base backup that is being copied.
type backupCopy struct {
	*syncing
	missingBackup
	folder string
	failed atomic.Bool // a file is damaged or has gone: the manifest must not come

	naming sync.Mutex
	names  map[string]int64 // of all files but the manifest, with their stored sizes
}

func (c *backupCopy) run(ctx context.Context, manifest string) error {
	text, err := c.From.Head(ctx, manifest, basebackup.MaxManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		c.was(&c.done.Gone)
		return nil
	}
	if err != nil {
		return c.from(err)
	}
	// The listing may be hours old.
	if err := c.list(ctx, c.syncing); err != nil {
		return c.to(err)
	}
	m, last := c.Manifest, c.inv.Geometry.At(c.Manifest.Timeline, max(c.Manifest.EndLSN-1, c.Manifest.StartLSN))
	size, there := c.sizes[basebackup.ManifestFile]
	switch {
	case there:
		if same, err := c.sameManifest(ctx, manifest, text.Data); err != nil || !same || c.bytes-size == m.StoredSize {
			return err
		}
	case c.holdsAt(m.Timeline, c.inv.Geometry.Number(last)):
		c.was(&c.done.Held)
		return nil
	case len(m.Lists) > 0 && c.isBare(m.Lists[0].Name): // they are all alike
		c.bare(manifest)
		return nil
	}
	if err := c.do(ctx, c.all); err != nil || c.failed.Load() {
		return err
	}
	if whole, err := c.complete(ctx, manifest); err != nil || !whole || there {
		return err
	}
	if !c.DryRun {
		fault.At("sync.backup")
		err = c.patiently(ctx, func() error { return c.to(c.To.Put(ctx, manifest, bytesOf(text.Data))) })
		if errors.Is(err, fs.ErrExist) {
			same, err := c.sameManifest(ctx, manifest, text.Data)
			if err != nil || !same {
				return err
			}
		} else if err != nil {
			return err
		}
	}
	c.copied(text.Size)
	c.mu.Lock()
	c.done.Backups++
	c.mu.Unlock()
	_, err = c.complete(ctx, manifest) // what looked dead until now may just have been cleared away
	return err
}

// sameManifest compares the manifest of a backup that To has, and sees to it that
// it outlasts a power cut: whoever has put it may not have got there.
func (c *backupCopy) sameManifest(ctx context.Context, manifest string, ours []byte) (same bool, err error) {
	theirs, err := c.To.Head(ctx, manifest, basebackup.MaxManifestSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil // a prune's
	case err != nil:
		return false, c.to(err)
	case string(theirs.Data) == string(ours):
		if c.DryRun {
			return true, nil
		}
		return true, c.to(c.To.Sync(ctx, manifest))
	}
	if _, err := basebackup.ParseManifest(theirs.Data, c.ID); err != nil {
		c.torn(manifest, err)
		return false, nil
	}
	c.fault(SyncFault{Conflict, c.ToName, manifest, "another base backup of the same name is there", meansOther})
	return false, nil
}

// all gives every file of the backup to be copied. A list is acted on only when
// all of it has been read and is right.
func (c *backupCopy) all(ctx context.Context, give func(syncJob) bool) error {
	back := newReadBack(c.From, c.inv, false)
	defer back.close()
	refs := append([]basebackup.Ref(nil), c.Manifest.Lists...)
	for _, ref := range []*basebackup.Ref{c.Manifest.Config, c.Manifest.ServerManifest} {
		if ref != nil {
			refs = append(refs, *ref)
		}
	}
	for _, ref := range refs {
		if !give(func(ctx context.Context, back *readBack) error { return c.one(ctx, back, ref) }) {
			return context.Cause(ctx)
		}
	}
	if slices.ContainsFunc(c.Manifest.Lists, func(l basebackup.Ref) bool { return stored.CodecOf(l.Name).IsSealed() }) {
		return c.unlisted(ctx, refs, give)
	}
	for _, list := range c.Manifest.Lists {
		var parts []basebackup.Ref
		name := path.Join(c.folder, list.Name)
		err := c.patiently(ctx, func() error {
			parts = nil
			return back.ref(ctx, name, list, func(content io.Reader) error {
				return basebackup.ReadParts(content, func(p basebackup.Part) error {
					parts = append(parts, p.Ref)
					return nil
				})
			})
		})
		switch {
		case err != nil && (lasting(err) || errors.Is(err, fs.ErrNotExist)):
			c.failed.Store(true) // copying it says why
			return nil
		case err != nil:
			return c.from(fmt.Errorf("%s: %w", name, err))
		}
		for _, ref := range parts {
			if !give(func(ctx context.Context, back *readBack) error { return c.one(ctx, back, ref) }) {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// unlisted gives the files to be copied whose names only encrypted lists tell:
// all that are there and were not given. Each vouches for itself, and the manifest
// says how many bytes they are together.
func (c *backupCopy) unlisted(ctx context.Context, given []basebackup.Ref, give func(syncJob) bool) error {
	entries, err := (&taker{Reader: c.From}).list(ctx, c.folder)
	if err != nil {
		return c.from(err)
	}
	for _, e := range entries {
		if e.IsDir || !stored.CodecOf(e.Name).IsSealed() || slices.ContainsFunc(given, func(r basebackup.Ref) bool { return r.Name == e.Name }) {
			continue
		}
		if !give(func(ctx context.Context, back *readBack) error {
			name := path.Join(c.folder, e.Name)
			var ref basebackup.Ref
			err := c.patiently(ctx, func() (err error) { ref, err = c.sealedRef(ctx, name, e.Size); return err })
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return c.lost(ctx, name, err)
			case err != nil && lasting(err):
				c.failed.Store(true)
				c.damaged(name, err)
				return nil
			case err != nil:
				return c.from(fmt.Errorf("%s: %w", name, err))
			}
			return c.one(ctx, back, ref)
		}) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// sealedRef is what an encrypted file says of itself in its head.
func (c *backupCopy) sealedRef(ctx context.Context, name string, size int64) (ref basebackup.Ref, err error) {
	head, err := c.From.Head(ctx, name, stored.HeadSize)
	if err != nil {
		return ref, err
	}
	rec, err := stored.ParseHead(head.Data, head.Size)
	if err != nil {
		return ref, fmt.Errorf("%w: %w", stored.ErrDamaged, err)
	}
	return basebackup.Ref{Name: path.Base(name), Size: rec.Size, StoredSize: size, SHA256: rec.SHA256}, nil
}

// one copies a file that is vouched for, unless To has it.
func (c *backupCopy) one(ctx context.Context, back *readBack, ref basebackup.Ref) error {
	name := path.Join(c.folder, ref.Name)
	c.naming.Lock()
	c.names[ref.Name] = ref.StoredSize
	c.naming.Unlock()
	if _, there := c.sizes[ref.Name]; there {
		return c.there(ctx, back, ref)
	}
	if c.DryRun {
		c.copied(ref.StoredSize)
		return nil
	}
	var wrong error
	err := c.patiently(ctx, func() error {
		wrong = nil
		err := c.To.Put(ctx, name, transport.Source{Write: func(w io.WriterAt) (err error) {
			wrong, err = c.through(ctx, back, w, func() error {
				return back.ref(ctx, name, ref, func(io.Reader) error { return nil })
			})
			return cmp.Or(err, wrong)
		}})
		if wrong != nil {
			return wrong
		}
		return c.to(err)
	})
	switch {
	case err == nil:
		fault.At("sync.copied")
		c.copied(ref.StoredSize)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case wrong != nil && errors.Is(wrong, fs.ErrNotExist):
		return c.lost(ctx, name, wrong)
	case wrong != nil && lasting(wrong):
		c.failed.Store(true)
		c.damaged(name, wrong)
		return nil
	case wrong != nil:
		return c.from(fmt.Errorf("%s: %w", name, wrong))
	case errors.Is(err, fs.ErrExist):
		return c.there(ctx, back, ref)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// lost deals with a file that is not in From: a prune may be at work there, which
// removes a backup's manifest first.
func (c *backupCopy) lost(ctx context.Context, name string, why error) error {
	first := !c.failed.Swap(true)
	_, err := c.From.Head(ctx, path.Join(c.folder, basebackup.ManifestFile), 0)
	switch {
	case err == nil:
		c.damaged(name, why)
	case !errors.Is(err, fs.ErrNotExist):
		return c.from(err)
	case first:
		c.was(&c.done.Gone)
	}
	return nil
}

// complete looks a last time whether all that the manifest is going to vouch for
// is in To, where a prune may have been at work meanwhile, and outlasts a power
// cut as the manifest will.
func (c *backupCopy) complete(ctx context.Context, manifest string) (whole bool, err error) {
	var size int64
	for _, n := range c.names {
		size += n
	}
	if size != c.Manifest.StoredSize {
		c.damaged(manifest, fmt.Errorf("its files have %d bytes, %d were stored", size, c.Manifest.StoredSize))
		return false, nil
	}
	if c.DryRun {
		return true, nil
	}
	gone := func(name string) error {
		return c.to(fmt.Errorf("%w: %s was there and has been removed or altered since", ErrArchive, path.Join(c.folder, name)))
	}
	for name := range c.names { // any of them: it is their folder that has to be synced
		err := c.patiently(ctx, func() error { return c.To.Sync(ctx, path.Join(c.folder, name)) })
		if errors.Is(err, fs.ErrNotExist) {
			return false, gone(name)
		}
		if err != nil {
			return false, c.to(err)
		}
		break
	}
	missing := maps.Clone(c.names)
	err = c.To.List(ctx, c.folder, func(e transport.FileInfo) error {
		if missing[e.Name] == e.Size {
			delete(missing, e.Name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, c.to(err)
	}
	for name := range missing {
		return false, gone(name)
	}
	return true, c.walThere(ctx, c.Backup)
}

// there checks a file that To has of a backup that is not whole there: what an
// earlier call has left is right.
func (c *backupCopy) there(ctx context.Context, back *readBack, ref basebackup.Ref) error {
	name := path.Join(c.folder, ref.Name)
	err := c.patiently(ctx, func() error { return c.thereOnce(ctx, back, name, ref) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist): // a prune's, and complete says so
		return nil
	case errors.Is(err, stored.ErrDamaged):
		c.failed.Store(true)
		c.torn(name, err)
		return nil
	}
	return c.to(fmt.Errorf("%s: %w", name, err))
}

func (c *backupCopy) thereOnce(ctx context.Context, back *readBack, name string, ref basebackup.Ref) error {
	if stored.CodecOf(name) == stored.Plain { // nothing but its content tells what it is
		back.store, back.read = c.To, nil
		defer func() { back.store, back.read = c.From, c.Read }()
		return back.ref(ctx, name, ref, func(io.Reader) error { return nil })
	}
	head, err := c.To.Head(ctx, name, stored.HeadSize)
	if err != nil {
		return err
	}
	record, err := stored.ParseHead(head.Data, head.Size)
	switch {
	case errors.Is(err, stored.ErrNoRecord):
		return fmt.Errorf("%w: it carries no record", stored.ErrDamaged)
	case err != nil:
		return err
	case head.Size != ref.StoredSize || record.SHA256 != [32]byte(ref.SHA256):
		return fmt.Errorf("%w: it is not the file that the backup's list vouches for", stored.ErrDamaged)
	}
	return nil
}
