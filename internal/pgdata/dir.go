// Package pgdata reads PostgreSQL's own files: the data directory with its
// pg_control, the files that say how a server recovers, and its configuration.
// It knows the differences between 9.0 and 18, asks no server and never writes.
package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walship/walname"
)

// ErrNotDataDir says that a folder is no PostgreSQL data directory.
var ErrNotDataDir = errors.New("not a PostgreSQL data directory")

// Files of a data directory, by their paths in it.
const (
	versionFile = "PG_VERSION"
	controlFile = "global/pg_control"
)

// Dir is a data directory as it was when it was opened.
type Dir struct {
	Path    string // absolute
	Version Version
	Control Control
}

// Open reads the data directory at path. Its mark is that it holds PG_VERSION
// and global/pg_control; the error wraps ErrNotDataDir if it lacks one of them.
// A server may run in it: a pg_control that is just being written is read again
// for some 50 ms.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: path}
	text, err := read(filepath.Join(path, versionFile))
	if err != nil {
		return nil, notDataDir(path, versionFile, err)
	}
	if d.Version, err = ParseVersion(string(text)); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(path, versionFile), err)
	}
	d.Control, err = patiently(func() (Control, error) {
		data, err := read(filepath.Join(path, controlFile))
		if err != nil {
			return Control{}, notDataDir(path, controlFile, err)
		}
		c, err := ParseControl(data)
		if err != nil {
			return Control{}, fmt.Errorf("%s: %w", path, err)
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// patiently calls read again, a few times, while the checksum is wrong.
func patiently(read func() (Control, error)) (Control, error) {
	for try := 1; ; try++ {
		c, err := read()
		if try == 6 || !errors.Is(err, ErrCRC) {
			return c, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func notDataDir(path, file string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: no %s", path, ErrNotDataDir, file)
	}
	return err
}

// Geometry returns how the cluster cuts its WAL.
func (d *Dir) Geometry() walname.Geometry {
	return walname.Geometry{SegmentSize: d.Control.SegmentSize, SkipFF: d.Version < version93}
}

// WALDir returns the absolute path of the folder of segments: pg_wal, which was
// pg_xlog before 10. It may be a symbolic link.
func (d *Dir) WALDir() string {
	if d.Version < version10 {
		return filepath.Join(d.Path, "pg_xlog")
	}
	return filepath.Join(d.Path, "pg_wal")
}

// Histories returns the history files in WALDir, by increasing timeline; none
// if the folder is not there. Files of other names are passed over. If some
// cannot be read or are broken, the error names them and the others are
// returned with it.
func (d *Dir) Histories() ([]walname.History, error) {
	entries, err := os.ReadDir(d.WALDir()) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []walname.History
	var broken []error
	for _, e := range entries {
		name, err := walname.Parse(e.Name())
		if err != nil || name.Kind != walname.KindHistory {
			continue
		}
		path := filepath.Join(d.WALDir(), e.Name())
		data, err := read(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the server has removed it meanwhile
		}
		if err != nil {
			broken = append(broken, err)
			continue
		}
		h, err := walname.ParseHistory(name.Timeline(), data)
		if err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", path, err))
			continue
		}
		all = append(all, h)
	}
	return all, errors.Join(broken...)
}

// Stopping reports whether the server in the directory is shutting down. A
// server tells from 10 on, in the eighth line of postmaster.pid; before, and if
// none runs, it is false.
func (d *Dir) Stopping() bool {
	text, err := read(filepath.Join(d.Path, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	return len(lines) > 7 && strings.TrimSpace(lines[7]) == "stopping"
}

// FromWALPath returns the data directory of a file in its WAL folder, as
// "/x/data" of "/x/data/pg_wal/NAME"; false if the path is not of that form or
// what it leads to is no data directory. A relative path gives a relative one.
// The path is taken by its letters: symbolic links in it are not resolved.
func FromWALPath(path string) (dir string, ok bool) {
	wal := filepath.Dir(path)
	if base := filepath.Base(wal); base != "pg_wal" && base != "pg_xlog" {
		return "", false
	}
	dir = filepath.Dir(wal)
	return dir, exists(dir, versionFile) && exists(dir, controlFile)
}

// exists reports whether the file is there.
func exists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}

// maxFile bounds what is read of a file, bytes: far above any configuration.
const maxFile = 16 << 20

// read returns the content of a regular file. What is none, such as a pipe that
// would never end, is an error.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, which is too many", path, info.Size())
	}
	return os.ReadFile(path)
}
