package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"walship/internal/fault"
	"walship/transport/internal/sftpclient"
)

// folderSync is a folder and its parent, opened to be synced. OpenSSH opens
// folders like files; other servers refuse, and then their entries cannot be
// put on stable storage by us.
type folderSync struct {
	s       *SFTP
	c       *session
	dir     string
	opening []sftpclient.OpenCall // the folder, then its parent
	handles []*sftpclient.Handle
}

// openFolder begins to open dir and its parent.
func (s *SFTP) openFolder(c *session, dir string) *folderSync {
	f := &folderSync{s: s, c: c, dir: dir}
	f.open()
	return f
}

func (f *folderSync) open() {
	f.opening = append(f.opening, f.c.Open(f.s.path(f.dir), sftpclient.Read, 0))
	if f.dir != "." {
		f.opening = append(f.opening, f.c.Open(f.s.path(path.Dir(f.dir)), sftpclient.Read, 0))
	}
}

// ready waits until the folders are open, making those that are missing. It
// fails if a folder sync is demanded and cannot be had.
func (f *folderSync) ready(ctx context.Context) error {
	err := f.wait(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		// Absent, made since, or a server that gives its refusal that name.
		_, look := f.c.Stat(f.s.path(f.dir)).Attrs(ctx)
		if errors.Is(look, fs.ErrNotExist) {
			look = f.s.makeFolder(ctx, f.c, f.dir)
		}
		if look != nil {
			return look
		}
		f.open()
		err = f.wait(ctx)
	}
	return f.refused(err)
}

// refused is what err, of opening or syncing a folder, means to the Durability.
func (f *folderSync) refused(err error) error {
	if err == nil || isLost(err) {
		return err
	}
	if f.s.durability == Full {
		return f.s.noFolderSync(err)
	}
	return nil
}

func (s *SFTP) noFolderSync(err error) error {
	return WithHint(
		fmt.Errorf("%w: %s cannot put a folder's entries on stable storage: %w", ErrNotDurable, s.url.Host, err),
		`durability = "file" accepts that: after a power cut of the archive host its last files may be missing as a whole`)
}

func (f *folderSync) wait(ctx context.Context) error {
	opening := f.opening
	f.opening = nil
	var first error
	for _, o := range opening {
		h, err := o.Handle(ctx)
		if err == nil {
			f.handles = append(f.handles, h)
		} else if first == nil {
			first = err
		}
	}
	if first != nil {
		f.closeHandles()
	}
	return first
}

// sync asks for the folders to be synced; the function that it returns waits
// for the answers. It may only be called after ready.
func (f *folderSync) sync() func(context.Context) error {
	if fault.Skip("put.folder-fsync") {
		return func(context.Context) error { return nil }
	}
	var calls []*sftpclient.Call
	if f.c.Has("fsync@openssh.com") {
		for _, h := range f.handles {
			calls = append(calls, h.Fsync())
		}
	}
	return func(ctx context.Context) error {
		for _, call := range calls {
			if err := f.refused(call.OK(ctx)); err != nil {
				return err
			}
		}
		return nil
	}
}

func (f *folderSync) close() {
	for _, o := range f.opening {
		o.Discard()
	}
	f.opening = nil
	f.closeHandles()
}

func (f *folderSync) closeHandles() {
	for _, h := range f.handles {
		h.Close()
	}
	f.handles = nil
}

// errNoFolder is what stands where a folder should be.
var errNoFolder = errors.New("not a folder")

// makeFolder makes dir and what is missing above it, durably, but never the
// topmost folder: if that is absent a disk may not be mounted.
func (s *SFTP) makeFolder(ctx context.Context, c *session, dir string) error {
	if !strings.Contains(dir, "/") && dir != "tmp" {
		return &fs.PathError{Op: "mkdir", Path: s.path(dir), Err: fs.ErrNotExist}
	}
	return s.mkdir(ctx, c, dir)
}

// mkdir makes dir and what is missing above it, below the root. Something else
// of that name is errNoFolder, never fs.ErrExist.
func (s *SFTP) mkdir(ctx context.Context, c *session, dir string) error {
	err := c.Mkdir(s.path(dir), folderMode).OK(ctx)
	if errors.Is(err, fs.ErrNotExist) && strings.Contains(dir, "/") {
		if err := s.makeFolder(ctx, c, path.Dir(dir)); err != nil {
			return err
		}
		err = c.Mkdir(s.path(dir), folderMode).OK(ctx)
	}
	if err != nil {
		attrs, look := c.Stat(s.path(dir)).Attrs(ctx)
		switch {
		case isLost(look):
			return look
		case look != nil:
			return s.why(ctx, c, err)
		case !attrs.IsDir():
			return &fs.PathError{Op: "mkdir", Path: s.path(dir), Err: errNoFolder}
		}
	}
	parent := s.openFolder(c, path.Dir(dir))
	defer parent.close()
	if err := parent.ready(ctx); err != nil {
		return err
	}
	return parent.sync()(ctx)
}
