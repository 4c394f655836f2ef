package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"walship/transport/internal/sftpclient"
)

// Open opens a file to be read from its beginning. ctx bounds the reading too.
// A file that is not there is fs.ErrNotExist.
func (s *SFTP) Open(ctx context.Context, name string) (File, error) {
	if err := valid("open", name); err != nil {
		return nil, err
	}
	var file *remoteFile
	err := s.try(ctx, func(c *session) error {
		f, err := c.Open(s.path(name), sftpclient.Read, 0).Reader(ctx)
		if err == nil {
			c.hold()
			file = &remoteFile{File: f, s: s, session: c}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// remoteFile gives the errors of reading their class, and the session back.
type remoteFile struct {
	*sftpclient.File
	s       *SFTP
	session *session
	closed  bool
}

func (f *remoteFile) Close() error {
	if !f.closed {
		f.closed = true
		f.session.done()
	}
	return f.File.Close()
}

func (f *remoteFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if isLost(err) {
		err = f.s.unreachable(err)
	}
	return n, err
}

// Head returns the first n bytes of a file, and its size.
func (s *SFTP) Head(ctx context.Context, name string, n int) (head Head, err error) {
	if err := valid("open", name); err != nil {
		return Head{}, err
	}
	err = s.try(ctx, func(c *session) (err error) {
		head.Data, head.Size, err = c.Open(s.path(name), sftpclient.Read, 0).Head(ctx, n)
		return err
	})
	return head, err
}

// List calls fn with each entry of a folder, in any order, in memory that does
// not grow with their number. An error of fn ends it and is returned, fs.SkipAll
// ends it without one. dir "." is the root.
func (s *SFTP) List(ctx context.Context, dir string, fn func(FileInfo) error) error {
	if err := validFolder("list", dir); err != nil {
		return err
	}
	begun := false
	var stopped error
	again := func() bool { return !begun && stopped == nil }
	err := s.tryWhile(ctx, again, func(c *session) error {
		return c.OpenDir(s.path(dir)).List(ctx, func(e sftpclient.Entry) error {
			if strings.ContainsAny(e.Name, "/\x00") || e.Name == "" {
				return nil // no name; nothing that we stored
			}
			begun = true
			stopped = fn(FileInfo{Name: e.Name, Size: e.Size, ModTime: e.ModTime, IsDir: e.IsDir()})
			return stopped
		})
	})
	if stopped == fs.SkipAll {
		return nil
	}
	if stopped != nil {
		return stopped
	}
	return err
}

// Mkdir makes a folder and what is missing above it, below the root, and puts
// their entries on stable storage. A folder that exists is fine.
func (s *SFTP) Mkdir(ctx context.Context, dir string) error {
	if err := validFolder("mkdir", dir); err != nil {
		return err
	}
	if dir == "." {
		_, err := s.stat(ctx, dir)
		return err
	}
	err := s.try(ctx, func(c *session) error {
		if top, _, below := strings.Cut(dir, "/"); below {
			if err := s.mkdir(ctx, c, top); err != nil {
				return err
			}
		}
		return s.mkdir(ctx, c, dir)
	})
	if errors.Is(err, errNoFolder) {
		return &fs.PathError{Op: "mkdir", Path: s.path(dir), Err: fs.ErrExist}
	}
	return err
}

func (s *SFTP) stat(ctx context.Context, name string) (attrs sftpclient.Attrs, err error) {
	err = s.try(ctx, func(c *session) (err error) {
		attrs, err = c.Stat(s.path(name)).Attrs(ctx)
		return err
	})
	return attrs, err
}

// MkdirRoot makes the root itself, and what is missing above it, and puts the
// entries of what it makes on stable storage, as far as the Durability demands.
// A root that exists is fine.
func (s *SFTP) MkdirRoot(ctx context.Context) error {
	return s.try(ctx, func(c *session) error { return s.mkdirAll(ctx, c, path.Clean(s.url.Path)) })
}

// mkdirAll makes dir, a path on the server.
func (s *SFTP) mkdirAll(ctx context.Context, c *session, dir string) error {
	attrs, err := c.Stat(dir).Attrs(ctx)
	if err == nil && !attrs.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
	}
	parent := path.Dir(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || parent == dir {
		return err
	}
	if err := s.mkdirAll(ctx, c, parent); err != nil {
		return err
	}
	if err := c.Mkdir(dir, folderMode).OK(ctx); err != nil {
		if attrs, look := c.Stat(dir).Attrs(ctx); look != nil || !attrs.IsDir() {
			return s.why(ctx, c, err)
		}
	}
	above := &folderSync{s: s, c: c, opening: []sftpclient.OpenCall{c.Open(parent, sftpclient.Read, 0)}}
	defer above.close()
	if err := above.refused(above.wait(ctx)); err != nil {
		return err
	}
	return above.sync()(ctx)
}

// Move gives a file another name, durably, and never replaces an existing file:
// that is fs.ErrExist. When it is broken off the file has one of the names or
// both, never none; only with Durability None, on a server without hard links,
// may two writers of the new name replace each other's file.
func (s *SFTP) Move(ctx context.Context, from, to string) error {
	if err := errors.Join(valid("move", from), valid("move", to)); err != nil {
		return err
	}
	begun := false // what a broken connection leaves undecided must not be asked again
	return s.tryWhile(ctx, func() bool { return !begun }, func(c *session) error {
		return s.move(ctx, c, from, to, func() { begun = true })
	})
}

func (s *SFTP) move(ctx context.Context, c *session, from, to string, begin func()) error {
	if err := s.promises(c); err != nil {
		return err
	}
	source, target := s.openFolder(c, path.Dir(from)), s.openFolder(c, path.Dir(to))
	defer source.close()
	defer target.close()
	attrs, err := c.Lstat(s.path(from)).Attrs(ctx)
	if err != nil {
		return err
	}
	if !attrs.IsRegular() {
		return &fs.PathError{Op: "move", Path: s.path(from), Err: errNotRegular}
	}
	if err := target.ready(ctx); err != nil {
		return err
	}
	if err := source.ready(ctx); err != nil {
		return err
	}
	if err := s.vacant(ctx, c, to); err != nil {
		return err
	}
	begin()
	linked := c.Has("hardlink@openssh.com")
	if linked {
		err = c.Link(s.path(from), s.path(to)).OK(ctx)
	} else {
		err = c.Rename(s.path(from), s.path(to)).OK(ctx)
	}
	if err != nil && !isLost(err) {
		// It may have been made since, which is a bare failure.
		if taken := s.vacant(ctx, c, to); taken != nil {
			return taken
		}
		return s.noLink(ctx, c, to, err)
	}
	if err != nil {
		return err
	}
	// The old name goes only when the new one is on stable storage.
	if err := target.sync()(ctx); err != nil {
		return err
	}
	if linked {
		if err := c.Remove(s.path(from)).OK(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return source.sync()(ctx)
}

// vacant demands that nothing has the name to. What has it is fs.ErrExist.
func (s *SFTP) vacant(ctx context.Context, c *session, to string) error {
	_, err := c.Lstat(s.path(to)).Attrs(ctx)
	if err == nil {
		return &fs.PathError{Op: "move", Path: s.path(to), Err: fs.ErrExist}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Remove removes a file, durably.
func (s *SFTP) Remove(ctx context.Context, name string) error {
	if err := valid("remove", name); err != nil {
		return err
	}
	return s.remove(ctx, name, func(c *session) error {
		if !c.openSSH { // others remove an empty folder too
			attrs, err := c.Lstat(s.path(name)).Attrs(ctx)
			if err == nil && attrs.IsDir() {
				return fmt.Errorf("remove %s: it is a folder", s.path(name))
			}
		}
		return c.Remove(s.path(name)).OK(ctx)
	})
}

// RemoveFolder removes an empty folder, durably. One that is not empty stays
// and is fs.ErrExist, one that is absent fs.ErrNotExist.
func (s *SFTP) RemoveFolder(ctx context.Context, dir string) error {
	if err := valid("rmdir", dir); err != nil {
		return err
	}
	return s.remove(ctx, dir, func(c *session) error {
		// OpenSSH calls a file that should be a folder absent, others remove it.
		attrs, err := c.Lstat(s.path(dir)).Attrs(ctx)
		if err != nil {
			return err
		}
		if !attrs.IsDir() {
			return &fs.PathError{Op: "rmdir", Path: s.path(dir), Err: errNoFolder}
		}
		err = c.Rmdir(s.path(dir)).OK(ctx)
		if err == nil || isLost(err) || errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Servers differ in what they call a folder that holds something.
		holds := false
		_ = c.OpenDir(s.path(dir)).List(ctx, func(e sftpclient.Entry) error {
			holds = true
			return fs.SkipAll
		})
		if holds {
			return &fs.PathError{Op: "rmdir", Path: s.path(dir), Err: fs.ErrExist}
		}
		return err
	})
}

// remove asks for the removal of name and syncs its folder.
func (s *SFTP) remove(ctx context.Context, name string, request func(*session) error) error {
	asked := false
	return s.try(ctx, func(c *session) error {
		folder := s.openFolder(c, path.Dir(name))
		defer folder.close()
		err := request(c)
		if err != nil && !(asked && errors.Is(err, fs.ErrNotExist)) {
			asked = asked || isLost(err) // then its answer is what got lost
			return s.why(ctx, c, err)
		}
		if err := folder.ready(ctx); err != nil {
			return err
		}
		return folder.sync()(ctx)
	})
}

// Sync puts an existing file and its folder entry on stable storage.
func (s *SFTP) Sync(ctx context.Context, name string) error {
	if err := valid("sync", name); err != nil {
		return err
	}
	return s.try(ctx, func(c *session) error { return s.syncFile(ctx, c, name) })
}

// Sweep removes the temporary files in dir that are older than age by the
// server's own clock, which it learns from a file that it makes. It returns how
// many it removed, also with an error. A folder that is absent is fs.ErrNotExist.
func (s *SFTP) Sweep(ctx context.Context, dir string, age time.Duration) (removed int, err error) {
	if err := validFolder("sweep", dir); err != nil {
		return 0, err
	}
	err = s.try(ctx, func(c *session) error {
		now, err := s.clock(ctx, c, dir)
		if err != nil {
			return err
		}
		var removals []*sftpclient.Call
		err = c.OpenDir(s.path(dir)).List(ctx, func(e sftpclient.Entry) error {
			// An age that the server does not tell is not a great age.
			old := !e.ModTime.IsZero() && now.Sub(e.ModTime) > age
			if old && isTemp(e.Name) && !e.IsDir() {
				removals = append(removals, c.Remove(s.path(path.Join(dir, path.Base(e.Name)))))
			}
			return nil
		})
		for _, r := range removals {
			switch gone := r.OK(ctx); {
			case gone == nil:
				removed++
			case err == nil && !errors.Is(gone, fs.ErrNotExist): // swept by another, or published
				err = gone
			}
		}
		return err
	})
	return removed, err
}

// Now returns the server's time by its own clock, which stamps a file that Now
// makes in the folder dir and removes. An absent folder is fs.ErrNotExist.
func (s *SFTP) Now(ctx context.Context, dir string) (now time.Time, err error) {
	if err := validFolder("time", dir); err != nil {
		return now, err
	}
	err = s.try(ctx, func(c *session) (err error) {
		now, err = s.clock(ctx, c, dir)
		return err
	})
	return now, err
}

// clock returns the server's time, from a file that it makes in dir.
func (s *SFTP) clock(ctx context.Context, c *session, dir string) (time.Time, error) {
	probe := s.path(path.Join(dir, path.Base(tempName("clock"))))
	h, err := c.Open(probe, sftpclient.Write|sftpclient.Create|sftpclient.Excl, fileMode).Handle(ctx)
	if err != nil {
		return time.Time{}, s.why(ctx, c, err)
	}
	now, err := h.Stat().Attrs(ctx)
	if closed := h.Close(); !c.openSSH {
		_, _ = closed.Wait(ctx)
	}
	if gone := c.Remove(probe).OK(ctx); err == nil && !errors.Is(gone, fs.ErrNotExist) { // swept by another
		err = gone
	}
	if err == nil && now.ModTime.IsZero() {
		err = fmt.Errorf("%s: the server does not tell the time of a file", s.path(dir))
	}
	return now.ModTime, err
}
