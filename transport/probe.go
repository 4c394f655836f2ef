package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"walship/transport/internal/sftpclient"
)

// Promises is what a server can do for an archive, as it was seen to do it.
// An error that is nil is a promise that was kept.
type Promises struct {
	OpenSSH    bool  // OpenSSH's own SFTP server
	Write      error // make, write and remove a file in the archive's folder
	Fsync      error // put a file on stable storage
	Folder     error // put a folder's entries on stable storage
	NoReplace  error // publish without replacing another file
	SpaceKnown bool  // whether the server tells the next two
	Free       int64 // bytes that the account may use
	Total      int64 // bytes of the file system
	ReadOnly   bool  // the file system is

	// Loopholes is what an append-only store's account could do and should not,
	// as "remove a file (remove)". Other stores are not probed for that.
	Loopholes []string
}

// Durability is the most that the server can promise; false if not even None,
// as nothing can be written.
func (p Promises) Durability() (Durability, bool) {
	switch {
	case p.Write != nil:
		return None, false
	case p.Fsync != nil || p.NoReplace != nil:
		return None, true
	case p.Folder != nil:
		return FileOnly, true
	}
	return Full, true
}

// errLacks says that the server does not offer something.
var errLacks = errors.New("the server does not offer it")

// Probe tries out what the server can do, in the store's root, which has to
// exist: it makes two small files there and removes them; those of an append-only
// store stay, and serve the next Probe. The error is that of a
// connection that could not be made or broke, or of a root that is not there
// (fs.ErrNotExist); what the server refuses is in Promises.
func (s *SFTP) Probe(ctx context.Context) (Promises, error) {
	var p Promises
	err := s.try(ctx, func(c *session) (err error) {
		p, err = s.probe(ctx, c)
		return err
	})
	return p, err
}

func (s *SFTP) probe(ctx context.Context, c *session) (Promises, error) {
	p := Promises{OpenSSH: c.openSSH}
	if attrs, err := c.Stat(s.url.Path).Attrs(ctx); err != nil {
		return p, err
	} else if !attrs.IsDir() {
		return p, &fs.PathError{Op: "probe", Path: s.url.Path, Err: errNoFolder}
	}
	if space, err := c.Space(ctx, s.url.Path); err == nil {
		p.SpaceKnown, p.Free, p.Total, p.ReadOnly = true, space.Free, space.Total, space.ReadOnly
	} else if isLost(err) {
		return p, err
	}
	if s.appendOnly {
		err := s.probeAppendOnly(ctx, c, &p)
		return p, err
	}

	one, two := s.path(path.Base(tempName("walship-probe"))), s.path(path.Base(tempName("walship-probe")))
	defer func() {
		_, _ = c.Remove(two).Wait(ctx)
	}()
	if p.Write = s.probeFile(ctx, c, one, &p); p.Write != nil {
		_, _ = c.Remove(one).Wait(ctx)
		return p, lostOnly(p.Write)
	}
	p.Folder = s.probeFolder(ctx, c)
	if p.Fsync != nil && p.Folder == nil {
		p.Folder = p.Fsync
	}
	p.NoReplace = s.probeNoReplace(ctx, c, one, two)
	p.Write = s.why(ctx, c, c.Remove(one).OK(ctx))
	if p.Write != nil {
		p.Write = fmt.Errorf("remove a file: %w", p.Write)
	}
	return p, lostOnly(errors.Join(p.Write, p.Fsync, p.Folder, p.NoReplace))
}

// lostOnly returns err if it is the end of the connection.
func lostOnly(err error) error {
	if isLost(err) {
		return err
	}
	return nil
}

// probeFile makes a file and syncs it.
func (s *SFTP) probeFile(ctx context.Context, c *session, name string, p *Promises) error {
	h, err := c.Open(name, sftpclient.Write|sftpclient.Create|sftpclient.Excl, s.fileMode()).Handle(ctx)
	if err != nil {
		return s.why(ctx, c, err)
	}
	w := h.Writer(ctx)
	_, err = w.WriteAt([]byte("walship tries out what this server can do\n"), 0)
	if err == nil {
		err = w.Flush()
	}
	p.Fsync = errLacks
	if c.Has("fsync@openssh.com") {
		p.Fsync = h.Fsync().OK(ctx)
	}
	closed := h.Close().OK(ctx)
	if err == nil {
		err = closed
	}
	return s.why(ctx, c, err)
}

// probeFolder opens the root like a file and syncs it.
func (s *SFTP) probeFolder(ctx context.Context, c *session) error {
	if !c.Has("fsync@openssh.com") {
		return errLacks
	}
	h, err := c.Open(s.url.Path, sftpclient.Read, 0).Handle(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Fsync().OK(ctx)
}

// probeNoReplace publishes one as two, in the way that a push does, and then
// looks whether the same over an existing name is refused.
func (s *SFTP) probeNoReplace(ctx context.Context, c *session, one, two string) error {
	if !c.Has("hardlink@openssh.com") {
		if c.openSSH {
			return nil // its RENAME is a link and an unlink
		}
		return errLacks
	}
	if err := c.Link(one, two).OK(ctx); err != nil {
		return err
	}
	return refusesLink(ctx, c, one, two)
}
