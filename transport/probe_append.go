package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"walship/transport/internal/sftpclient"
)

// probeAppendName is a file in the archive's root that Probe of an append-only
// store makes once, and then tries to harm. A second name of it ends in "-link".
const probeAppendName = "append-only.walship-probe"

// probeAppendOnly is probe for an account that shall only add. What it makes
// stays, so it makes it once. Everything that would change or remove an archived
// file it tries on its own; what the server lets it do is in p.Loopholes.
func (s *SFTP) probeAppendOnly(ctx context.Context, c *session, p *Promises) error {
	one := s.path(probeAppendName)
	two := one + "-link"
	_, err := c.Lstat(one).Attrs(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if p.Write = s.probeFile(ctx, c, one, p); p.Write != nil {
			return lostOnly(p.Write)
		}
	case err != nil:
		return err
	default:
		p.Fsync = s.syncOpened(ctx, c, one)
	}
	if p.Folder = s.probeFolder(ctx, c); p.Fsync != nil && p.Folder == nil {
		p.Folder = p.Fsync
	}
	if _, err := c.Lstat(two).Attrs(ctx); err == nil {
		p.NoReplace = refusesLink(ctx, c, one, two)
	} else {
		p.NoReplace = s.probeNoReplace(ctx, c, one, two)
	}
	if err := lostOnly(errors.Join(p.Fsync, p.Folder, p.NoReplace)); err != nil {
		return err
	}
	return s.probeHarm(ctx, c, one, two, p)
}

// syncOpened puts a file on stable storage, opened for reading.
func (s *SFTP) syncOpened(ctx context.Context, c *session, name string) error {
	if !c.Has("fsync@openssh.com") {
		return errLacks
	}
	h, err := c.Open(name, sftpclient.Read, 0).Handle(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	return h.Fsync().OK(ctx)
}

// probeHarm tries on the probe's own file what must be refused, the harmless
// first.
func (s *SFTP) probeHarm(ctx context.Context, c *session, one, two string, p *Promises) error {
	harm := func(what string, err error) error {
		if isLost(err) {
			return err
		}
		if err == nil {
			p.Loopholes = append(p.Loopholes, what)
		}
		return nil
	}
	open := func(flags uint32) error {
		h, err := c.Open(one, flags, 0).Handle(ctx)
		if err == nil {
			_, _ = h.Close().Wait(ctx)
		}
		return err
	}
	fsetstat := func() error {
		h, err := c.Open(one, sftpclient.Read, 0).Handle(ctx)
		if err != nil {
			return err
		}
		defer h.Close()
		return h.SetMode(readOnlyMode).OK(ctx)
	}
	for _, try := range []struct {
		what string
		err  func() error
	}{
		{"leave its folder, as no ChrootDirectory confines it", func() error { _, err := c.Stat("/etc/passwd").Attrs(ctx); return err }},
		{"change a file's mode (setstat)", func() error { return c.SetMode(one, readOnlyMode).OK(ctx) }},
		{"change an open file's mode (fsetstat)", fsetstat},
		{"change a file's mode (lsetstat)", func() error { return c.SetLinkMode(one, readOnlyMode).OK(ctx) }},
		{"make a symbolic link (symlink)", func() error { return c.Symlink(one, two+"-symbolic").OK(ctx) }},
		{"open a file for writing", func() error { return open(sftpclient.Write) }},
		{"truncate a file", func() error { return open(sftpclient.Read | sftpclient.Trunc) }},
		{"replace a file (posix-rename)", func() error { return c.PosixRename(two, two+"-posix").OK(ctx) }},
		{"rename a file (rename)", func() error { return c.Rename(two, two+"-renamed").OK(ctx) }},
		{"remove a file (remove)", func() error { return c.Remove(two).OK(ctx) }},
		{"remove a folder (rmdir)", func() error { return s.probeRmdir(ctx, c, two+"-folder") }},
	} {
		if err := harm(try.what, try.err()); err != nil {
			return err
		}
	}
	if len(p.Loopholes) > 0 { // then tidying up may work too
		for _, name := range []string{two + "-symbolic", two + "-posix", two + "-renamed", two} {
			_, _ = c.Remove(name).Wait(ctx)
		}
	}
	return nil
}

// refusesLink is nil if a link to an existing name is refused.
func refusesLink(ctx context.Context, c *session, one, two string) error {
	err := c.Link(one, two).OK(ctx)
	switch {
	case isLost(err):
		return err
	case err == nil:
		return errors.New("a link to an existing name was not refused")
	}
	return nil
}

// probeRmdir makes a folder, unless it is there, and tries to remove it.
func (s *SFTP) probeRmdir(ctx context.Context, c *session, dir string) error {
	if err := c.Mkdir(dir, folderMode).OK(ctx); isLost(err) {
		return err
	}
	if attrs, err := c.Lstat(dir).Attrs(ctx); err != nil || !attrs.IsDir() {
		return fmt.Errorf("no folder to try it on: %w", errors.Join(err, errNoFolder))
	}
	return c.Rmdir(dir).OK(ctx)
}
