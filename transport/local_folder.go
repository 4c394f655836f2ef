package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// Mkdir makes the folder dir and its missing parents below the root. nil means
// that it exists and that its entry and theirs are on stable storage. A folder
// that exists is fine; anything else of that name is an error that wraps
// fs.ErrExist.
func (l *Local) Mkdir(ctx context.Context, dir string) error {
	if err := validFolder("mkdir", dir); err != nil {
		return err
	}
	root, err := l.openRoot(ctx, "mkdir", dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if info, err := root.Stat(dir); err == nil && !info.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: l.path(dir), Err: fs.ErrExist}
	}
	if err := l.makeFolder(root, dir, ""); err != nil {
		return l.explain(err)
	}
	return l.explain(l.syncFolder(root, path.Dir(dir)))
}

// MkdirRoot makes the root and its missing parents, durably. A root that exists
// is fine.
func (l *Local) MkdirRoot(ctx context.Context) error {
	dir, err := filepath.Abs(l.root)
	if err != nil {
		return err
	}
	return l.explain(l.makeRoot(ctx, dir))
}

func (l *Local) makeRoot(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	info, err := os.Stat(dir)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := l.makeRoot(ctx, parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.promised(f.Sync(), parent, Full)
}

// makeFolder makes dir and its missing parents, but not the folder keep, which
// it only looks for. It keeps this order for the
// whole archive: a folder gets its first folder only once its own entry is on
// stable storage. So whoever finds a folder need sync no more than it and its
// parent, even if another process has just made it.
// What it finds in place of a folder is never an error that wraps fs.ErrExist.
func (l *Local) makeFolder(root *os.Root, dir, keep string) error {
	info, err := root.Stat(dir)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	if !errors.Is(err, fs.ErrNotExist) || dir == keep {
		return err
	}
	parent := path.Dir(dir)
	if err := l.makeFolder(root, parent, keep); err != nil {
		return err
	}
	if parent != "." {
		if err := l.syncFolder(root, path.Dir(parent)); err != nil {
			return err
		}
	}
	if err := root.Mkdir(dir, folderMode); errors.Is(err, fs.ErrExist) {
		info, err := root.Stat(dir) // made meanwhile, or a dangling link
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return l.syncFolder(root, parent)
}

// Sync returns nil once the existing file name, its entry and its folder's
// entry are on stable storage. Its errors are those of Open.
func (l *Local) Sync(ctx context.Context, name string) error {
	root, err := l.begin(ctx, "sync", name)
	if err != nil {
		return err
	}
	defer root.Close()
	return l.explain(l.sync(root, name))
}

func (l *Local) sync(root *os.Root, name string) error {
	f, _, err := openRegular(root, name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := l.syncFile(f); err != nil {
		return err
	}
	return l.syncFolders(root, name)
}

// syncFolders syncs the folder of name and that folder's parent.
func (l *Local) syncFolders(root *os.Root, name string) error {
	dir := path.Dir(name)
	if err := l.syncFolder(root, dir); err != nil {
		return err
	}
	if dir == "." {
		return nil
	}
	return l.syncFolder(root, path.Dir(dir))
}

func (l *Local) syncFolder(root *os.Root, dir string) error {
	f, err := openFolder(root, dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.promised(f.Sync(), dir, Full)
}

func (l *Local) syncFile(f *os.File) error {
	return l.promised(f.Sync(), f.Name(), FileOnly)
}

// promised judges err, of a sync of name. A file system that cannot sync it is
// no matter to a Durability beyond need, the least strict that demands it.
func (l *Local) promised(err error, name string, need Durability) error {
	if err == nil || !unsupported(err) {
		return err
	}
	if l.durability > need {
		return nil
	}
	return WithHint(fmt.Errorf("%w: sync %s: %w", ErrNotDurable, l.path(name), err),
		"keep the archive on another file system, or ask for less durability in the configuration")
}
