package transport

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

var errNotRegular = errors.New("not a regular file")

// explain returns err with the whole path in its message instead of one below
// the root, and with the class that package errors has no mapping for. It is
// nil for nil.
func (l *Local) explain(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		err = &fs.PathError{Op: e.Op, Path: l.path(e.Path), Err: e.Err}
	case *os.LinkError:
		err = &os.LinkError{Op: e.Op, Old: l.path(e.Old), New: l.path(e.New), Err: e.Err}
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return classed{err, ErrFull}
	case errors.Is(err, syscall.EROFS):
		return classed{err, fs.ErrPermission}
	}
	return err
}

func (l *Local) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(l.root, name)
}

// classed is an error of the operating system that speaks for itself, with the
// class that errors.Is finds.
type classed struct {
	error
	class error
}

func (c classed) Unwrap() []error { return []error{c.error, c.class} }

// unsupported reports whether err says that a file system does not know an
// operation, as opposed to having failed at it.
func unsupported(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL)
}

// noHardLinks reports whether err, of a link, may come from a file system that
// has no hard links. Linux answers EPERM there.
func noHardLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EPERM)
}
