package pgserver

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"walship/internal/basebackup"
)

// walker finds what a backup holds of one folder, the data directory or a
// tablespace's, while the server works in it. It remembers the folders that it
// is in, and some names of each, never a whole folder.
type walker struct {
	root       string // on this machine
	tablespace uint32
	links      bool            // links to tablespaces belong to the backup: before 9.5
	emptied    map[string]bool // more folders without their content
	warn       func(string)

	open []*folder
	due  []basebackup.Entry // found already
}

type folder struct {
	file  *os.File
	path  string // relative to the root, "" for the root itself
	names []string
}

// namesAtOnce is how many names of a folder are read at a time.
const namesAtOnce = 512

// enter begins to walk a folder. One that has vanished is passed over.
func (w *walker) enter(rel string) error {
	f, err := os.OpenFile(filepath.Join(w.root, rel), os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) && rel != "" {
		return nil
	}
	if err != nil {
		return localError(err)
	}
	w.open = append(w.open, &folder{file: f, path: rel})
	return nil
}

// next returns the next entry; of a regular file also the file, which is open
// and has Size bytes or more. io.EOF follows the last one.
func (w *walker) next() (basebackup.Entry, *os.File, error) {
	for {
		if len(w.due) > 0 {
			e := w.due[0]
			w.due = w.due[1:]
			return e, nil, nil
		}
		if len(w.open) == 0 {
			return basebackup.Entry{}, nil, io.EOF
		}
		d := w.open[len(w.open)-1]
		if len(d.names) == 0 {
			names, err := d.file.Readdirnames(namesAtOnce)
			if errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist) {
				_ = d.file.Close() // was only read
				w.open = w.open[:len(w.open)-1]
				continue
			}
			if err != nil {
				return basebackup.Entry{}, nil, localError(err)
			}
			d.names = names
		}
		name := d.names[0]
		d.names = d.names[1:]
		e, file, err := w.look(d.path, name)
		if err != nil {
			return basebackup.Entry{}, nil, err
		}
		if e.Path != "" {
			return e, file, nil
		}
	}
}

// look decides on one name. An entry without a path says that it is left out.
func (w *walker) look(dir, name string) (basebackup.Entry, *os.File, error) {
	var no basebackup.Entry
	if leftOut(w.tablespace, dir, name) {
		return no, nil, nil
	}
	rel := path.Join(dir, name)
	full := filepath.Join(w.root, rel)
	info, err := os.Lstat(full)
	if err == nil && info.Mode().Type() == fs.ModeSymlink && w.withoutContent(rel) {
		info, err = os.Stat(full) // pg_wal on a disk of its own: a folder in the backup
	}
	if errors.Is(err, fs.ErrNotExist) {
		return no, nil, nil
	}
	if err != nil {
		return no, nil, localError(err)
	}
	e := basebackup.Entry{Tablespace: w.tablespace, Path: rel, Mode: uint32(info.Mode().Perm()), ModTime: info.ModTime().UTC()}
	switch {
	case info.IsDir():
		e.Type = basebackup.Dir
		if !w.withoutContent(rel) {
			return e, nil, w.enter(rel)
		}
		w.below(e)
		return e, nil, nil
	case info.Mode().IsRegular():
		return w.regular(e, full)
	case info.Mode().Type() == fs.ModeSymlink && w.tablespace == 0 && dir == "pg_tblspc":
		if !w.links {
			return no, nil, nil // stands in tablespace_map
		}
		e.Type, e.Mode = basebackup.Link, 0o777
		if e.Link, err = os.Readlink(full); err != nil {
			return no, nil, localError(err)
		}
		return e, nil, nil
	case info.Mode().Type() != fs.ModeSocket:
		w.warn(fmt.Sprintf("%s is neither a file nor a folder (%s): it is not in the backup", full, kindOf(info.Mode())))
	}
	return no, nil, nil
}

func (w *walker) withoutContent(rel string) bool {
	return w.tablespace == 0 && !strings.Contains(rel, "/") && (emptied[rel] || w.emptied[rel])
}

// below adds the folders that PostgreSQL expects in the WAL folder.
func (w *walker) below(e basebackup.Entry) {
	if e.Path != "pg_wal" && e.Path != "pg_xlog" {
		return
	}
	for _, name := range []string{"archive_status", "summaries"} {
		if info, err := os.Stat(filepath.Join(w.root, e.Path, name)); err == nil && info.IsDir() {
			sub := e
			sub.Path = path.Join(e.Path, name)
			w.due = append(w.due, sub)
		}
	}
}

// regular opens a file; from then on it may be removed.
func (w *walker) regular(e basebackup.Entry, full string) (basebackup.Entry, *os.File, error) {
	f, err := os.OpenFile(full, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return basebackup.Entry{}, nil, nil
	}
	if err != nil {
		return e, nil, localError(err)
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return basebackup.Entry{}, nil, localError(err)
	}
	e.Size = info.Size()
	return e, f, nil
}

func (w *walker) close() {
	for _, d := range w.open {
		_ = d.file.Close()
	}
	w.open = nil
}

func kindOf(m fs.FileMode) string {
	switch m.Type() {
	case fs.ModeSymlink:
		return "a symbolic link"
	case fs.ModeNamedPipe:
		return "a pipe"
	}
	return "a device"
}

// localError is for what cannot be read on this machine; nil stays nil.
func localError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrLocal, err)
}
