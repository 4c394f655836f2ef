package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"walship/internal/fault"
	"walship/transport/internal/sftpclient"
)

// Permissions of what is made, before the server's umask.
const (
	fileMode   = 0o640
	folderMode = 0o750
)

// Put stores a file. Nil means that its complete bytes and its folder entry are
// on stable storage, as far as the store's Durability demands. It never replaces
// an existing file: an error that is fs.ErrExist means that there is one, and
// that it has been synced with its folder, so that the caller may compare. After
// any other error the outcome is unknown, a retry is safe, and at worst a
// temporary file is left, which Sweep removes.
//
// Put takes effect with the link: until then nothing is seen under name, from
// then on the whole file. These requests go out, each line in one round trip:
//
//	open(temp, CREAT|EXCL)  open(folder)  open(parent)
//	write …  fsync(temp)  close(temp)
//	hardlink(temp, name)  remove(temp)  fsync(folder)  fsync(parent)  close …
//
// The link is never sent before the writes and the fsync have been acknowledged.
// Only OpenSSH is known to work on requests in the order in which they came; on
// other servers each step waits for the one before. The parent is synced too, as
// another writer may have made the folder and not yet synced it. Missing folders
// are made, but never the topmost.
func (s *SFTP) Put(ctx context.Context, name string, src Source) error {
	if err := valid("put", name); err != nil {
		return err
	}
	taken := false
	once := Source{Confirm: src.Confirm, Write: func(w io.WriterAt) error {
		taken = true
		return src.Write(w)
	}}
	return s.try(ctx, func(c *session) error {
		if taken { // by the first try, whose outcome is unknown
			return fmt.Errorf("%w: the connection to %s broke during the transfer", ErrUnreachable, s.url.Host)
		}
		return s.put(ctx, c, name, once)
	})
}

func (s *SFTP) put(ctx context.Context, c *session, name string, src Source) error {
	if err := s.promises(c); err != nil {
		return err
	}
	temp := tempName(name)
	folder := s.openFolder(c, path.Dir(name))
	defer folder.close()
	file, trip, err := s.create(ctx, c, temp)
	if err != nil {
		return err
	}
	published := false
	defer func() {
		if !published {
			c.Remove(s.path(temp)) // Sweep does what this cannot
		}
	}()
	fault.At("put.created")

	if err := s.fill(ctx, c, file, trip, src.Write); err != nil {
		return err
	}
	fault.At("put.synced")

	if err := folder.ready(ctx); err != nil {
		return err
	}
	if src.Confirm != nil {
		if err := src.Confirm(); err != nil {
			return err
		}
	}
	published, err = s.publish(ctx, c, s.path(temp), name, folder)
	return err
}

// promises fails if the server is known to lack what the Durability demands.
func (s *SFTP) promises(c *session) error {
	lacks := func(what string) error {
		return WithHint(
			fmt.Errorf("%w: %s cannot %s", ErrNotDurable, s.url.Host, what),
			`durability = "none" accepts that`)
	}
	switch {
	case s.durability == None:
		return nil
	case !c.Has("fsync@openssh.com"):
		return lacks("put a file on stable storage (no fsync@openssh.com)")
	case !c.Has("hardlink@openssh.com") && !c.openSSH:
		return lacks("publish a file without overwriting another (no hardlink@openssh.com)")
	}
	return nil
}

// create opens the temporary file, making its folder if need be.
func (s *SFTP) create(ctx context.Context, c *session, temp string) (*sftpclient.Handle, time.Duration, error) {
	const flags = sftpclient.Write | sftpclient.Create | sftpclient.Excl
	sent := time.Now()
	file, err := c.Open(s.path(temp), flags, fileMode).Handle(ctx)
	trip := time.Since(sent)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.makeFolder(ctx, c, path.Dir(temp)); err == nil {
			file, err = c.Open(s.path(temp), flags, fileMode).Handle(ctx)
		}
	}
	return file, trip, s.why(ctx, c, err)
}

// fill writes the file, syncs and closes it, and waits for all of it.
func (s *SFTP) fill(ctx context.Context, c *session, file *sftpclient.Handle, trip time.Duration, write func(io.WriterAt) error) error {
	w := file.Writer(ctx, trip)
	err := write(w)
	fault.At("put.written")
	if err != nil || !c.openSSH {
		if sent := w.Flush(); sent != nil {
			err = s.why(ctx, c, sent)
		}
	}
	if err != nil {
		file.Close()
		return err
	}
	var synced *sftpclient.Call
	if c.Has("fsync@openssh.com") && !fault.Skip("put.fsync") {
		synced = file.Fsync()
		if !c.openSSH {
			<-synced.Done()
		}
	}
	closed := file.Close()
	if fault.Skip("put.wait") {
		return nil
	}
	err = w.Flush()
	if err == nil && synced != nil {
		err = synced.OK(ctx)
		if err != nil && s.durability == None {
			err = nil
		}
	}
	if err == nil {
		err = closed.OK(ctx)
	}
	return s.why(ctx, c, err)
}

// publish gives the temporary file its name and puts the folder entry on stable
// storage. Whatever comes of it, the temporary name is not needed any more.
func (s *SFTP) publish(ctx context.Context, c *session, temp, name string, folder *folderSync) (published bool, err error) {
	to := s.path(name)
	var done *sftpclient.Call
	switch {
	case fault.Skip("put.noreplace"):
		done = c.PosixRename(temp, to)
	case c.Has("hardlink@openssh.com"):
		done = c.Link(temp, to)
		if c.openSSH && s.durability != None {
			c.Remove(temp) // or leave it to Sweep: nothing depends on it
		}
	case c.openSSH:
		done = c.Rename(temp, to) // link and unlink, on the server
	default:
		return s.renameAfterLook(ctx, c, temp, name, folder)
	}
	if !c.openSSH {
		<-done.Done()
	}
	synced := folder.sync()
	err = done.OK(ctx)
	fault.At("put.published")
	if err == nil {
		if !c.openSSH || s.durability == None {
			c.Remove(temp)
		}
		err = synced(ctx)
		fault.At("put.folder-synced")
		return true, err
	}
	var lost *sftpclient.LostError
	if errors.As(err, &lost) || errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	// OpenSSH has one word for a collision and for all other failures.
	if attrs, look := c.Lstat(to).Attrs(ctx); look == nil {
		return false, s.collision(ctx, c, name, attrs)
	}
	err = s.why(ctx, c, err)
	var status *sftpclient.StatusError
	if !errors.As(err, &status) || errors.Is(err, ErrFull) {
		return false, err
	}
	// The temporary file could be made and its name is free: most likely a file
	// system without hard links.
	if s.durability == None {
		return s.renameAfterLook(ctx, c, temp, name, folder)
	}
	return false, WithHint(
		fmt.Errorf("%w: publish %s without overwriting another file: %w", ErrNotDurable, name, err),
		`if the archive's file system has no hard links, durability = "none" does without them`)
}

// renameAfterLook publishes on a server that may replace an existing file: two
// writers of one name at the same moment are not kept apart. Durability None.
func (s *SFTP) renameAfterLook(ctx context.Context, c *session, temp, name string, folder *folderSync) (bool, error) {
	to := s.path(name)
	attrs, err := c.Lstat(to).Attrs(ctx)
	if err == nil {
		return false, s.collision(ctx, c, name, attrs)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := c.Rename(temp, to).OK(ctx); err != nil {
		return false, s.why(ctx, c, err)
	}
	return true, folder.sync()(ctx)
}

// collision is the answer to a put of a name that is taken: the existing file
// is synced first, as it may be another writer's who has not got there yet.
func (s *SFTP) collision(ctx context.Context, c *session, name string, attrs sftpclient.Attrs) error {
	if attrs.IsDir() {
		return fmt.Errorf("put %s: a folder is in the way", s.path(name))
	}
	if err := s.syncFile(ctx, c, name); err != nil {
		return fmt.Errorf("put %s: it exists, and syncing it failed: %w", name, err)
	}
	return &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
}

// syncFile puts an existing file and its folder entry on stable storage.
func (s *SFTP) syncFile(ctx context.Context, c *session, name string) error {
	if err := s.promises(c); err != nil {
		return err
	}
	folder := s.openFolder(c, path.Dir(name))
	defer folder.close()
	file, err := c.Open(s.path(name), sftpclient.Read, 0).Handle(ctx)
	if err != nil {
		return err
	}
	defer file.Close()
	if c.Has("fsync@openssh.com") {
		if err := file.Fsync().OK(ctx); err != nil && s.durability != None {
			return err
		}
	}
	if err := folder.ready(ctx); err != nil {
		return err
	}
	return folder.sync()(ctx)
}

// why adds what can be learnt about a bare failure: OpenSSH does not tell a
// full disk or a read-only one from anything else.
func (s *SFTP) why(ctx context.Context, c *session, err error) error {
	var status *sftpclient.StatusError
	if !errors.As(err, &status) || status.Code != sftpclient.StatusFailure {
		return err
	}
	space, look := c.Space(ctx, s.url.Path)
	switch {
	case look != nil:
		return err
	case space.ReadOnly:
		return fmt.Errorf("%w: the archive's file system is read-only: %w", fs.ErrPermission, err)
	case space.Free < 64<<10 || space.FreeFiles == 0:
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
