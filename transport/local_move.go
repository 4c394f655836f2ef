package transport

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// Move gives the file from the name to, whose folders are made as by Put. nil
// means that this is on stable storage. It never replaces a file: an existing
// to is an error that wraps fs.ErrExist, an absent from one that wraps
// fs.ErrNotExist; then nothing has changed. After any other error the file is
// there under its old name, its new one or both.
func (l *Local) Move(ctx context.Context, from, to string) error {
	if err := valid("move", to); err != nil {
		return err
	}
	root, err := l.begin(ctx, "move", from)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(from)
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "move", Path: from, Err: errNotRegular}
	}
	if err != nil {
		return l.explain(err)
	}
	if err := l.makeFolder(root, path.Dir(to), topFolder(to)); err != nil {
		return l.explain(err)
	}
	if err := l.publish(root, from, to); err != nil {
		return l.explain(err)
	}
	// A crash may leave both names, but not neither: should the file system
	// write the folders one by one, the new entry goes first.
	if err := l.syncFolders(root, to); err != nil {
		return l.explain(err)
	}
	return l.explain(l.syncFolder(root, path.Dir(from)))
}

// Remove removes the file name; nil means that this is on stable storage. An
// absent name is an error that wraps fs.ErrNotExist, a folder one that does not.
func (l *Local) Remove(ctx context.Context, name string) error {
	root, err := l.begin(ctx, "remove", name)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if err == nil && info.IsDir() {
		err = &fs.PathError{Op: "remove", Path: name, Err: syscall.EISDIR}
	}
	if err != nil {
		return l.explain(err)
	}
	if err := root.Remove(name); err != nil {
		return l.explain(err)
	}
	return l.explain(l.syncFolder(root, path.Dir(name)))
}

// RemoveFolder removes the folder dir, which must be empty; nil means that this
// is on stable storage. An absent one is an error that wraps fs.ErrNotExist, one
// that holds something, which stays, an error that wraps fs.ErrExist; what is no
// folder is an error that wraps neither. The root cannot be removed.
func (l *Local) RemoveFolder(ctx context.Context, dir string) error {
	root, err := l.begin(ctx, "rmdir", dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "rmdir", Path: dir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return l.explain(err)
	}
	if err := root.Remove(dir); err != nil {
		return l.explain(err)
	}
	return l.explain(l.syncFolder(root, path.Dir(dir)))
}

// Now returns the time by the clock of the file system that stamps the files in
// the folder dir: that of a file which Now makes there and removes. An absent
// folder is an error that wraps fs.ErrNotExist.
func (l *Local) Now(ctx context.Context, dir string) (time.Time, error) {
	if err := validFolder("time", dir); err != nil {
		return time.Time{}, err
	}
	root, err := l.openRoot(ctx, "time", dir)
	if err != nil {
		return time.Time{}, err
	}
	defer root.Close()
	now, err := clock(root, dir)
	return now, l.explain(err)
}

func clock(root *os.Root, dir string) (time.Time, error) {
	probe := path.Join(dir, path.Base(tempName("clock")))
	f, err := root.OpenFile(probe, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return time.Time{}, err
	}
	info, err := f.Stat()
	_ = f.Close()
	if gone := root.Remove(probe); err == nil && !errors.Is(gone, fs.ErrNotExist) { // swept by another
		err = gone
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// Sweep removes the temporary files in the folder dir that have not been
// written for longer than age, and returns how many it removed, also with an
// error. It goes by the clock that Now tells. Other files it leaves alone. An
// absent folder is an error that wraps fs.ErrNotExist.
func (l *Local) Sweep(ctx context.Context, dir string, age time.Duration) (int, error) {
	if err := validFolder("sweep", dir); err != nil {
		return 0, err
	}
	root, err := l.openRoot(ctx, "sweep", dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	now, err := clock(root, dir)
	if err != nil {
		return 0, l.explain(err)
	}
	oldest := now.Add(-age)

	n := 0
	err = l.List(ctx, dir, func(entry FileInfo) error {
		if entry.IsDir || !isTemp(entry.Name) || !entry.ModTime.Before(oldest) {
			return nil
		}
		err := root.Remove(path.Join(dir, entry.Name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // swept by another, or published
		}
		if err != nil {
			return l.explain(err)
		}
		n++
		return nil
	})
	return n, err
}
