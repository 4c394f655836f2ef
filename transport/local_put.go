package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"walship/internal/fault"
)

// Put stores the content of src as the file name.
//
// nil means that the complete bytes and the folder entry are on stable storage,
// as far as the store's Durability demands. Put never replaces an existing file.
// An error that wraps fs.ErrExist means that a file of that name exists and has
// itself been synced, with its folder, so the caller may compare. Any other
// error means that the outcome is unknown and that a retry is safe.
//
// The file takes effect under its name at once and whole, after src.Confirm
// has returned nil. Missing folders are made, but never the top folder of name:
// where that is absent the answer wraps fs.ErrNotExist, as for an absent root.
// An error of src.Write or
// src.Confirm is returned as it is, with nothing published; it must not wrap
// fs.ErrExist. A write that failed fails Put, even if src.Write does not say so.
//
// These are the system calls, in order:
//
//	fsync(parent's parent), mkdirat, fsync(parent)
//	                         for each missing folder, from the top down
//	openat(TEMP, O_CREAT|O_EXCL|O_WRONLY)
//	pwrite64(TEMP) …         src.Write
//	fsync(TEMP)
//	close(TEMP)              then src.Confirm
//	linkat(TEMP, name)       or renameat2(TEMP, name, RENAME_NOREPLACE)
//	unlinkat(TEMP)
//	fsync(folder of name)
//	fsync(its parent)        where that is not above the root
//
// After a link that finds name taken, fsync(name) comes in place of the unlink,
// and the unlink at the end.
func (l *Local) Put(ctx context.Context, name string, src Source) error {
	root, err := l.begin(ctx, "put", name)
	if err != nil {
		return err
	}
	defer root.Close()

	temp := tempName(name)
	for _, dir := range []string{path.Dir(name), path.Dir(temp)} {
		if err := l.makeFolder(root, dir, topFolder(name)); err != nil {
			return l.explain(err)
		}
	}
	gone := false // the temporary file is
	defer func() {
		if !gone {
			root.Remove(temp)
		}
	}()
	if err := l.writeTemp(ctx, root, temp, src.Write); err != nil {
		return err
	}
	if src.Confirm != nil {
		if err := src.Confirm(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return &fs.PathError{Op: "put", Path: name, Err: err}
	}

	// From here to the end the context is not asked: what has been published
	// is better synced than in doubt.
	if fault.Skip("put.noreplace") {
		err = root.Rename(temp, name)
	} else {
		err = l.publish(root, temp, name)
	}
	if errors.Is(err, fs.ErrExist) {
		if err := l.sync(root, name); err != nil {
			return fmt.Errorf("exists, but not surely on stable storage: %w", l.explain(err))
		}
		return &fs.PathError{Op: "put", Path: l.path(name), Err: fs.ErrExist}
	}
	if err != nil {
		return l.explain(err)
	}
	gone = true
	fault.At("put.published")
	if !fault.Skip("put.folder-fsync") {
		if err := l.syncFolders(root, name); err != nil {
			return l.explain(err)
		}
	}
	fault.At("put.folder-synced")
	return nil
}

// writeTemp creates temp and fills it. nil means that its content is on stable
// storage. Its errors are explained and never wrap fs.ErrExist of its own.
func (l *Local) writeTemp(ctx context.Context, root *os.Root, temp string, write func(io.WriterAt) error) error {
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create %s: the random name is taken", l.path(temp))
	}
	if err != nil {
		return l.explain(err)
	}
	defer f.Close() // a second Close does nothing
	fault.At("put.created")

	w := &tempWriter{ctx: ctx, store: l, file: f}
	if err := write(w); err != nil {
		return err
	}
	if err := w.failed(); err != nil {
		return err
	}
	fault.At("put.written")
	if err := ctx.Err(); err != nil {
		return &fs.PathError{Op: "put", Path: temp, Err: err}
	}
	if !fault.Skip("put.fsync") {
		if err := l.syncFile(f); err != nil {
			return l.explain(err)
		}
	}
	if err := f.Close(); err != nil {
		return l.explain(err)
	}
	fault.At("put.synced")
	return nil
}

// publish gives the file temp the name to, at once, and takes its old name
// away. It replaces nothing: an existing to is an error that wraps fs.ErrExist.
// Only with Durability None, on a file system that knows neither hard links nor
// an exclusive rename, two calls at once may replace each other's file.
func (l *Local) publish(root *os.Root, temp, to string) error {
	err := root.Link(temp, to)
	if err == nil {
		root.Remove(temp) // a second name that stays does no harm and is swept
		return nil
	}
	if !noHardLinks(err) {
		return err
	}
	err = renameNoReplace(root, temp, to)
	if err == nil || !unsupported(err) {
		return err
	}
	if l.durability != None {
		return WithHint(
			fmt.Errorf("%w: %s: publish without overwriting: neither hard links nor an exclusive rename", ErrNotDurable, l.path(to)),
			"keep the archive on another file system, or ask for less durability in the configuration")
	}
	if _, err := root.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: temp, New: to, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.Rename(temp, to)
}

// tempWriter is what src.Write writes through. It remembers its first error.
type tempWriter struct {
	ctx   context.Context
	store *Local
	file  *os.File

	mu  sync.Mutex
	err error
}

// WriteAt may be called concurrently.
func (w *tempWriter) WriteAt(p []byte, off int64) (int, error) {
	err := w.ctx.Err()
	n := 0
	if err == nil {
		n, err = w.file.WriteAt(p, off)
	}
	if err == nil {
		return n, nil
	}
	err = w.store.explain(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *tempWriter) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
