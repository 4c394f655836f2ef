package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"walship/internal/basebackup"
	"walship/internal/layout"
	"walship/transport"
)

// abandonedAge is the age from which on a folder without a manifest is that of
// a backup that has died. A backup that lives writes a part every few minutes,
// and waits for WAL at most half as long.
const abandonedAge = 24 * time.Hour

// MaxWALLimit is the longest that a backup may wait for WAL: it must not look
// abandoned.
const MaxWALLimit = abandonedAge / 2

// abandon removes what the backup has stored, as well as it can, and returns
// why, with what is left.
func (r *backupRun) abandon(ctx context.Context, why error) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupLimit)
	defer cancel()
	r.mu.Lock()
	names, publishing := slices.Collect(maps.Keys(r.names)), r.publishing
	r.mu.Unlock()
	if publishing {
		// Nothing of a backup may be missing while its manifest is there.
		err := r.Store.Remove(ctx, r.path(basebackup.ManifestFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("whether backup %s has been stored is not known (the answer to its last step was lost: %w); nothing of it was removed, and if its %s is there it is whole: %w",
				r.id, err, basebackup.ManifestFile, why)
		}
	}
	left, err := removeFiles(ctx, r.Store, r.folder, names)
	if err == nil {
		err = r.Store.RemoveFolder(ctx, r.folder)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			err = nil // nothing was stored, or another's
		}
	}
	switch {
	case err != nil && left > 0:
		r.warn(fmt.Sprintf("up to %d files of the unfinished backup are left in %s (%v); without a manifest it is none, and the next walship backup removes them once they are a day old",
			left, r.folder, err))
	case err != nil:
		r.warn(fmt.Sprintf("the empty folder %s of the unfinished backup is left (%v)", r.folder, err))
	case len(names) > 0:
		r.say(fmt.Sprintf("what was stored of backup %s has been removed", r.id))
	}
	return why
}

// removeFiles removes files of a folder, and returns how many are left. One that
// is absent has been removed.
func removeFiles(ctx context.Context, s BackupStore, folder string, names []string) (left int, err error) {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = path.Join(folder, name)
	}
	gone, err := s.RemoveAll(ctx, paths)
	return len(names) - gone, err
}

// RemoveAbandoned removes what backups that have died left behind: folders
// without a manifest in which everything is older than a day by the archive's
// own clock. One that is still being written is never touched.
func (b *Backuper) RemoveAbandoned(ctx context.Context, systemID uint64) error {
	root := basebackup.Root(layout.Cluster{SystemID: systemID})
	type candidate struct {
		name   string
		newest time.Time
	}
	var folders []candidate
	err := b.Store.List(ctx, root, func(e transport.FileInfo) error {
		if _, err := basebackup.ParseID(e.Name); err == nil && e.IsDir {
			folders = append(folders, candidate{e.Name, e.ModTime})
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) || len(folders) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	var now time.Time
	for _, f := range folders {
		folder := path.Join(root, f.name)
		_, err := b.Store.Head(ctx, path.Join(folder, basebackup.ManifestFile), 0)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if now.IsZero() {
			if now, err = b.Store.Now(ctx, root); err != nil {
				return err
			}
		}
		if err := b.removeAbandoned(ctx, folder, f.newest, now); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
	}
	return nil
}

func (b *Backuper) removeAbandoned(ctx context.Context, folder string, newest, now time.Time) error {
	var names []string
	foreign := false
	err := b.Store.List(ctx, folder, func(e transport.FileInfo) error {
		if e.ModTime.After(newest) {
			newest = e.ModTime
		}
		// The manifest may have come since it was looked for.
		foreign = foreign || e.IsDir || e.Name == basebackup.ManifestFile
		names = append(names, e.Name)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another has removed it
	}
	// An age that the archive does not tell is not a great age.
	if err != nil || foreign || newest.IsZero() || now.Sub(newest) <= abandonedAge {
		return err
	}
	if _, err := removeFiles(ctx, b.Store, folder, names); err != nil {
		return err
	}
	if err := b.Store.RemoveFolder(ctx, folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.say(fmt.Sprintf("removed %s, which a backup that did not come to its end left more than a day ago", folder))
	return nil
}
