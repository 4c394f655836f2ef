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
	var file *sftpclient.File
	err := s.try(ctx, func(c *session) (err error) {
		file, err = c.Open(s.path(name), sftpclient.Read, 0).Reader(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &remoteFile{file, s}, nil
}

// remoteFile gives the errors of reading their class.
type remoteFile struct {
	*sftpclient.File
	s *SFTP
}

func (f *remoteFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	var lost *sftpclient.LostError
	if errors.As(err, &lost) {
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
	err := s.try(ctx, func(c *session) error {
		if begun {
			return errors.New("the connection broke in the middle of a listing")
		}
		return c.OpenDir(s.path(dir)).List(ctx, func(e sftpclient.Entry) error {
			begun = true
			if strings.ContainsAny(e.Name, "/\x00") {
				return nil // no name; nothing that we stored
			}
			stopped = fn(FileInfo{Name: e.Name, Size: e.Size, ModTime: e.ModTime, IsDir: e.IsDir()})
			return stopped
		})
	})
	if stopped != nil {
		if stopped == fs.SkipAll {
			return nil
		}
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
	return s.try(ctx, func(c *session) error {
		if top, _, below := strings.Cut(dir, "/"); below {
			if err := s.mkdir(ctx, c, top); err != nil {
				return err
			}
		}
		return s.mkdir(ctx, c, dir)
	})
}

func (s *SFTP) stat(ctx context.Context, name string) (attrs sftpclient.Attrs, err error) {
	err = s.try(ctx, func(c *session) (err error) {
		attrs, err = c.Stat(s.path(name)).Attrs(ctx)
		return err
	})
	return attrs, err
}

// MkdirRoot makes the root itself, and what is missing above it.
func (s *SFTP) MkdirRoot(ctx context.Context) error {
	return s.try(ctx, func(c *session) error {
		var up func(dir string) error
		up = func(dir string) error {
			if attrs, err := c.Stat(dir).Attrs(ctx); err == nil {
				if !attrs.IsDir() {
					return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
				}
				return nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if parent := path.Dir(dir); parent != dir {
				if err := up(parent); err != nil {
					return err
				}
			}
			return s.why(ctx, c, c.Mkdir(dir, folderMode).OK(ctx))
		}
		if err := up(path.Clean(s.url.Path)); err != nil {
			return err
		}
		root := s.openFolder(c, "..")
		defer root.close()
		if err := root.wait(ctx); err != nil {
			return nil // its parent is not ours to open; the first put will tell
		}
		return root.sync()(ctx)
	})
}

// Move gives a file another name, durably, and never replaces an existing file:
// that is fs.ErrExist. When it is broken off the file has one of the names or
// both, never none.
func (s *SFTP) Move(ctx context.Context, from, to string) error {
	if err := errors.Join(valid("move", from), valid("move", to)); err != nil {
		return err
	}
	return s.try(ctx, func(c *session) error {
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
		if attrs.IsDir() {
			return fmt.Errorf("move %s: it is a folder", s.path(from))
		}
		if err := target.ready(ctx); err != nil {
			return err
		}
		if err := source.ready(ctx); err != nil {
			return err
		}
		if err := s.moveTo(ctx, c, from, to); err != nil {
			return err
		}
		if err := target.sync()(ctx); err != nil {
			return err
		}
		if c.Has("hardlink@openssh.com") {
			if err := c.Remove(s.path(from)).OK(ctx); err != nil {
				return err
			}
		}
		return source.sync()(ctx)
	})
}

// moveTo gives the file its second name, or, where there are no links, its new one.
func (s *SFTP) moveTo(ctx context.Context, c *session, from, to string) error {
	_, look := c.Lstat(s.path(to)).Attrs(ctx)
	if look == nil {
		return &fs.PathError{Op: "move", Path: s.path(to), Err: fs.ErrExist}
	}
	if c.Has("hardlink@openssh.com") {
		return s.why(ctx, c, c.Link(s.path(from), s.path(to)).OK(ctx))
	}
	return s.why(ctx, c, c.Rename(s.path(from), s.path(to)).OK(ctx))
}

// Remove removes a file, durably.
func (s *SFTP) Remove(ctx context.Context, name string) error {
	if err := valid("remove", name); err != nil {
		return err
	}
	return s.try(ctx, func(c *session) error {
		folder := s.openFolder(c, path.Dir(name))
		defer folder.close()
		if err := c.Remove(s.path(name)).OK(ctx); err != nil {
			return err
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
// server's own clock, which it learns from a file that it makes.
func (s *SFTP) Sweep(ctx context.Context, dir string, age time.Duration) (removed int, err error) {
	if err := validFolder("sweep", dir); err != nil {
		return 0, err
	}
	err = s.try(ctx, func(c *session) error {
		probe := path.Join(dir, path.Base(tempName(dir+"/sweep")))
		h, _, err := s.create(ctx, c, probe)
		if err != nil {
			return err
		}
		now, err := h.Stat().Attrs(ctx)
		h.Close()
		c.Remove(s.path(probe))
		if err != nil {
			return err
		}
		var removals []*sftpclient.Call
		err = c.OpenDir(s.path(dir)).List(ctx, func(e sftpclient.Entry) error {
			if isTemp(e.Name) && !e.IsDir() && now.ModTime.Sub(e.ModTime) > age {
				removals = append(removals, c.Remove(path.Join(s.path(dir), path.Base(e.Name))))
			}
			return nil
		})
		for _, r := range removals {
			if r.OK(ctx) == nil {
				removed++
			}
		}
		return err
	})
	return removed, err
}
