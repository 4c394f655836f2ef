package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// tree is a folder that is being filled. Nothing that is written through it can
// lie outside of it, whatever the names and links in a backup say. Its methods
// may be called concurrently.
type tree struct {
	*os.Root
	owner *Owner // nil: left as it is

	mu    sync.Mutex
	modes map[string]uint32 // of folders that nothing could be put into, for the end
}

// local gives an error of this machine its class. The absence of a local file
// must not look like that of an archived one.
func local(err error) error {
	if err == nil || errors.Is(err, ErrLocal) {
		return err
	}
	return classed{ErrLocal, withoutClass(err)}
}

// openTree makes the folder if it is not there, and what is missing above it,
// and opens it.
func openTree(dir string, owner *Owner) (*tree, error) {
	if err := mkdirAll(dir, owner); err != nil {
		return nil, local(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, local(err)
	}
	t := &tree{Root: root, owner: owner, modes: make(map[string]uint32)}
	return t, local(t.own("."))
}

// mkdirAll makes a folder and those above it that are missing, all of them the
// owner's: a server that cannot enter one cannot start.
func mkdirAll(dir string, owner *Owner) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := mkdirAll(filepath.Dir(dir), owner); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return os.MkdirAll(dir, 0o700) // an error if it is no folder
	}
	if err != nil || owner == nil {
		return err
	}
	return os.Lchown(dir, owner.UID, owner.GID)
}

// own gives a file or folder to the owner.
func (t *tree) own(name string) error {
	if t.owner == nil {
		return nil
	}
	return t.Lchown(name, t.owner.UID, t.owner.GID)
}

// create makes a file, and the folders above it, and never opens one that is
// there.
func (t *tree) create(name string, mode uint32) (*os.File, error) {
	open := func() (*os.File, error) { return t.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) }
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		if err := t.mkdirs(path.Dir(name)); err != nil {
			return nil, err
		}
		f, err = open()
	}
	if err != nil {
		return nil, err
	}
	if mode != 0o600 {
		err = f.Chmod(fs.FileMode(mode).Perm())
	}
	if t.owner != nil && err == nil {
		err = f.Chown(t.owner.UID, t.owner.GID)
	}
	if err != nil {
		_ = f.Close()
		t.Remove(name)
		return nil, err
	}
	return f, nil
}

// mkdirs makes a folder and those above it. One that exists is fine.
func (t *tree) mkdirs(name string) error {
	if name == "." {
		return nil
	}
	err := t.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := t.mkdirs(path.Dir(name)); err != nil {
			return err
		}
		err = t.Mkdir(name, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		info, err := t.Lstat(name)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no folder", name)
		}
		return err
	}
	if err != nil {
		return err
	}
	return t.own(name)
}

// dir makes a folder with its mode.
func (t *tree) dir(name string, mode uint32) error {
	if err := t.mkdirs(name); err != nil {
		return err
	}
	if mode&0o700 != 0o700 {
		t.mu.Lock()
		t.modes[name] = mode
		t.mu.Unlock()
		mode |= 0o700
	}
	return t.Chmod(name, fs.FileMode(mode).Perm())
}

// lockUp gives folders the modes that keep anything from being put into them.
func (t *tree) lockUp() error {
	var failed error
	for name, mode := range t.modes {
		failed = errors.Join(failed, t.Chmod(name, fs.FileMode(mode).Perm()))
	}
	return failed
}

// link makes a symbolic link.
func (t *tree) link(target, name string) error {
	if err := t.mkdirs(path.Dir(name)); err != nil {
		return err
	}
	if err := t.Symlink(target, name); err != nil {
		return err
	}
	return t.own(name)
}

// write makes or replaces a whole file.
func (t *tree) write(name string, content []byte) error {
	mode := uint32(0o600)
	if info, err := t.Lstat(name); err == nil {
		mode = uint32(info.Mode().Perm())
		if err := t.Remove(name); err != nil {
			return err
		}
	}
	f, err := t.create(name, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// stamp sets when the file was last changed.
func (t *tree) stamp(name string, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	return t.Chtimes(name, at, at)
}

// clear removes all that is in the folder but its mark.
func (t *tree) clear() error {
	names, err := fs.ReadDir(t.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range names {
		if e.Name() == markFile {
			continue
		}
		if err := t.RemoveAll(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// OwnerOf is who the files of a restore will be given to: nil for whoever runs it.
func OwnerOf(o Options) *Owner {
	if os.Geteuid() != 0 {
		return nil
	}
	if o.Owner != nil {
		return o.Owner
	}
	info, err := os.Stat(o.Dir)
	if err != nil || UserOf(info) <= 0 {
		return nil
	}
	return &Owner{UserOf(info), int(info.Sys().(*syscall.Stat_t).Gid)}
}

// UserOf is the user id of a file's owner, -1 if the system does not tell.
func UserOf(info fs.FileInfo) int {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid)
	}
	return -1
}
