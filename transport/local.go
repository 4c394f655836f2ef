package transport

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// Local is a store in a folder of this machine. Its methods may be called
// concurrently, by any number of processes, on any number of Locals of one root.
//
// The root must exist: where it does not, every method but MkdirRoot returns an
// error that wraps fs.ErrNotExist and creates nothing, for a missing root may be
// a disk that is not mounted. The root may be a symbolic link; below it no
// symbolic link is followed out of the root. The root is looked up anew by
// every call, so a Local never holds on to a disk that was unmounted since.
//
// A context is looked at between steps. A system call that hangs, as on a dead
// NFS server, is not interrupted by it.
type Local struct {
	root       string
	durability Durability
}

// NewLocal returns the store in the folder root, which it does not touch yet.
func NewLocal(root string, d Durability) *Local {
	return &Local{root: root, durability: d}
}

// Close releases nothing, as a Local holds nothing, and returns nil.
func (l *Local) Close() error { return nil }

// Open opens the file name for reading. A name that is absent is an error that
// wraps fs.ErrNotExist; a folder, or anything else that is no regular file, is
// one that does not.
func (l *Local) Open(ctx context.Context, name string) (File, error) {
	root, err := l.begin(ctx, "open", name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, size, err := openRegular(root, name)
	if err != nil {
		return nil, l.explain(err)
	}
	return &localFile{ctx: ctx, store: l, file: f, size: size}, nil
}

// Head returns the size of the file name and its first n bytes, or all of it if
// it is shorter. Its errors are those of Open.
func (l *Local) Head(ctx context.Context, name string, n int) (Head, error) {
	root, err := l.begin(ctx, "open", name)
	if err != nil {
		return Head{}, err
	}
	defer root.Close()
	f, size, err := openRegular(root, name)
	if err != nil {
		return Head{}, l.explain(err)
	}
	defer f.Close()
	data := make([]byte, max(0, min(int64(n), size)))
	if _, err := io.ReadFull(f, data); err != nil {
		return Head{}, l.explain(&fs.PathError{Op: "read", Path: name, Err: err})
	}
	return Head{Size: size, Data: data}, nil
}

// listBatch is how many entries List holds at a time.
const listBatch = 512

// List calls fn once for each entry of the folder dir ("." is the root), in no
// particular order and as it reads, so the size of the folder does not matter.
// An entry that comes or goes meanwhile may be told or not. A symbolic link is
// told as itself, never as the folder that it leads to. An error of fn ends the
// listing and is returned, but for fs.SkipAll, which ends it without error. A
// folder that is absent is an error that wraps fs.ErrNotExist.
func (l *Local) List(ctx context.Context, dir string, fn func(FileInfo) error) error {
	if err := validFolder("list", dir); err != nil {
		return err
	}
	root, err := l.openRoot(ctx, "list", dir)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := openFolder(root, dir)
	if err != nil {
		return l.explain(err)
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(listBatch)
		for _, entry := range entries {
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone since it was read
			}
			if err != nil {
				return l.explain(err)
			}
			err = fn(FileInfo{Name: info.Name(), Size: info.Size(), ModTime: info.ModTime(), IsDir: info.IsDir()})
			if err == fs.SkipAll {
				return nil
			}
			if err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return l.explain(err)
		}
		if err := ctx.Err(); err != nil {
			return &fs.PathError{Op: "list", Path: dir, Err: err}
		}
	}
}

// begin checks the name of a file and the context and opens the root.
func (l *Local) begin(ctx context.Context, op, name string) (*os.Root, error) {
	if err := valid(op, name); err != nil {
		return nil, err
	}
	return l.openRoot(ctx, op, name)
}

func (l *Local) openRoot(ctx context.Context, op, name string) (*os.Root, error) {
	if err := ctx.Err(); err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	root, err := os.OpenRoot(l.root)
	return root, l.explain(err)
}

// openRegular opens a regular file for reading and returns its size. It does
// not wait for a writer where somebody has put a named pipe.
func openRegular(root *os.Root, name string) (*os.File, int64, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// openFolder opens a folder for listing or syncing.
func openFolder(root *os.Root, dir string) (*os.File, error) {
	return root.OpenFile(path.Clean(dir), os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_DIRECTORY, 0)
}

// localFile is a File of a Local.
type localFile struct {
	ctx   context.Context // of Open
	store *Local
	file  *os.File
	size  int64
}

func (f *localFile) Size() int64  { return f.size }
func (f *localFile) Close() error { return f.file.Close() }

func (f *localFile) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, &fs.PathError{Op: "read", Path: f.file.Name(), Err: err}
	}
	n, err := f.file.Read(p)
	if err == io.EOF {
		return n, err
	}
	return n, f.store.explain(err)
}

// validFolder checks the name of a folder, which may be the root, ".".
func validFolder(op, dir string) error {
	if dir == "." {
		return nil
	}
	return valid(op, dir)
}
