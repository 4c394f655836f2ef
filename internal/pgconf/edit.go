// Package pgconf changes configuration files: PostgreSQL's own and walship's. It
// decides what they should hold, as pure functions of their text, and writes them
// so that a crash leaves the old content or the new. It asks no server, keeps
// every byte that it has no reason to change, and never removes a line of the
// administrator's.
package pgconf

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"walship/internal/fault"
)

// Edit is one file as it is and as it shall be.
type Edit struct {
	Path   string      // absolute; where a symbolic link leads to, not the link
	Old    []byte      // nil if there is no such file
	New    []byte      // nil if it shall not be there
	Mode   fs.FileMode // permissions of a file that is made; an existing one keeps its own
	Secret bool        // the content is never shown
	Data   string      // the data directory that the file belongs to, "" for walship's own files

	made  bool // by setup: there is no earlier content to keep
	notes bool // it is the journal: not one of the steps at which a test kills
}

// ErrChanged says that a file is not as it was when it was read.
var ErrChanged = errors.New("the file has changed meanwhile")

// Open reads the file of that path, through symbolic links, into an Edit that
// changes nothing yet. A file that is not there is one without content.
func Open(path string, mode fs.FileMode) (Edit, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Edit{}, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Edit{}, err
	}
	e := Edit{Path: path, Mode: mode}
	e.Old, err = read(path)
	e.New = e.Old
	return e, err
}

// read returns nil if the file is not there, and never nil if it is.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no ordinary file", path)
	}
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if data == nil && err == nil {
		data = []byte{}
	}
	return data, err
}

// Changes reports whether there is anything to write.
func (e Edit) Changes() bool {
	return (e.Old == nil) != (e.New == nil) || !bytes.Equal(e.Old, e.New)
}

// SavedPath is where the file as it was before walship first changed it is kept.
func SavedPath(path string) string { return path + ".before-walship" }

// Write puts the new content into place. Nil means that it is on stable storage,
// under the file's name; after an error the file has its old content or its new.
// Owner and permissions stay. The old content is kept beside it, as SavedPath
// says, unless something is kept there already. The error is ErrChanged if the
// file is no longer what Open has read. A missing folder is made, with mode 0755.
func (e Edit) Write() error {
	if !e.Changes() {
		return nil
	}
	now, err := read(e.Path)
	if err != nil {
		return err
	}
	if (now == nil) != (e.Old == nil) || !bytes.Equal(now, e.Old) {
		return fmt.Errorf("%s: %w", e.Path, ErrChanged)
	}
	dir := filepath.Dir(e.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if e.Old != nil && !e.Secret && !e.made {
		if err := e.save(); err != nil {
			return err
		}
	}
	e.at("setup.saved")
	if e.New == nil {
		if err := os.Remove(e.Path); err != nil {
			return err
		}
		return syncDir(dir)
	}
	temp, err := e.temporary(e.New)
	if err != nil {
		return err
	}
	e.at("setup.written")
	if err := os.Rename(temp, e.Path); err != nil {
		_ = os.Remove(temp) // the error counts
		return err
	}
	e.at("setup.renamed")
	return syncDir(dir)
}

func (e Edit) at(step string) {
	if !e.notes {
		fault.At(step)
	}
}

// save keeps the old content, once.
func (e Edit) save() error {
	saved := SavedPath(e.Path)
	if _, err := os.Lstat(saved); err == nil {
		return nil
	}
	temp, err := e.temporary(e.Old)
	if err != nil {
		return err
	}
	err = os.Link(temp, saved)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil { // a file system without hard links
		err = os.Rename(temp, saved)
	}
	_ = os.Remove(temp) // a leftover does no harm
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(e.Path))
}

// temporary makes a file with that content beside the final one, with the owner
// and the permissions that the final one has or shall have, on stable storage.
func (e Edit) temporary(content []byte) (path string, err error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	path = e.Path + ".walship-" + hex.EncodeToString(random[:]) + ".tmp"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(path) // the error counts
		}
	}()
	mode := e.Mode
	if info, err := os.Stat(e.Path); err == nil {
		mode = info.Mode().Perm()
		if st, ok := info.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
			if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil && int(st.Uid) != os.Geteuid() {
				return "", fmt.Errorf("%s belongs to another user, and its owner cannot be kept: %w", e.Path, err)
			}
		}
	}
	if err := f.Chmod(mode); err != nil {
		return "", err
	}
	if _, err := f.Write(content); err != nil {
		return "", err
	}
	return path, f.Sync()
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
