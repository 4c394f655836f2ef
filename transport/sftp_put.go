package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"walship/internal/fault"
	"walship/transport/internal/sftpclient"
)

// Permissions of what is made, before the server's umask.
const (
	fileMode     = 0o640
	readOnlyMode = 0o440 // of an append-only store's files
	folderMode   = 0o750
)

// fileMode is that of the files which the store makes.
func (s *SFTP) fileMode() uint32 {
	if s.appendOnly {
		return readOnlyMode
	}
	return fileMode
}

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
//	open(folder)  open(parent)  open(temp, CREAT|EXCL)
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
	taken, exists := false, false
	once := Source{Confirm: src.Confirm, Write: func(w io.WriterAt) error {
		taken = true
		return src.Write(w)
	}}
	again := func() bool { return !taken } // Write is called once
	err := s.tryWhile(ctx, again, func(c *session) (err error) {
		exists, err = s.put(ctx, c, name, once)
		return err
	})
	if errors.Is(err, fs.ErrExist) && !exists {
		err = fmt.Errorf("put %s: %v", name, err) // no promise of a file that is safe
	}
	return err
}

// put is one try of Put. exists is true only if the name is taken, by a file
// that has been synced.
func (s *SFTP) put(ctx context.Context, c *session, name string, src Source) (exists bool, err error) {
	if err := s.promises(c); err != nil {
		return false, err
	}
	temp := tempName(name)
	folder := s.openFolder(c, path.Dir(name))
	defer folder.close()
	file, err := s.create(ctx, c, temp)
	made, published := err == nil || isLost(err), false
	defer func() {
		if !made || published || s.appendOnly {
			return
		}
		// A file that fills the disk must not stay, so wait, but not for long if
		// the caller does not: Sweep does what this cannot.
		_, _ = c.Remove(s.path(temp)).Wait(ctx)
	}()
	if err != nil {
		return false, err
	}
	fault.At("put.created")

	if err := folder.ready(ctx); err != nil {
		file.Close()
		return false, err
	}
	if err := s.fill(ctx, c, file, src.Write); err != nil {
		return false, err
	}
	fault.At("put.synced")

	if src.Confirm != nil {
		if err := src.Confirm(); err != nil {
			return false, err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	published, exists, err = s.publish(ctx, c, s.path(temp), name, folder)
	return exists, err
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
func (s *SFTP) create(ctx context.Context, c *session, temp string) (*sftpclient.Handle, error) {
	const flags = sftpclient.Write | sftpclient.Create | sftpclient.Excl
	file, err := c.Open(s.path(temp), flags, s.fileMode()).Handle(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.makeFolder(ctx, c, path.Dir(temp)); err == nil {
			file, err = c.Open(s.path(temp), flags, s.fileMode()).Handle(ctx)
		}
	}
	return file, s.why(ctx, c, err)
}

// fill writes the file, syncs and closes it, and waits for all of it.
func (s *SFTP) fill(ctx context.Context, c *session, file *sftpclient.Handle, write func(io.WriterAt) error) error {
	w := file.Writer(ctx)
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
			_, _ = synced.Wait(ctx) // its error comes below
		}
	}
	closed := file.Close()
	if fault.Skip("put.wait") {
		return nil
	}
	err = w.Flush()
	if err == nil && synced != nil {
		err = synced.OK(ctx)
		if s.durability == None && !isLost(err) {
			err = nil
		}
	}
	if err == nil {
		err = closed.OK(ctx)
	}
	return s.why(ctx, c, err)
}

// publish gives the temporary file its name and puts the folder entry on stable
// storage. published means that the temporary name is gone, or will be when all
// that has been sent is done.
func (s *SFTP) publish(ctx context.Context, c *session, temp, name string, folder *folderSync) (published, exists bool, err error) {
	to := s.path(name)
	// Requests overtake nothing on OpenSSH, so the unlink and the sync need not
	// wait for the link; but while there is another way to publish the unlink must.
	ahead := c.openSSH && s.durability != None
	keep := s.appendOnly // the temporary name stays
	var done, removed *sftpclient.Call
	switch {
	case fault.Skip("put.noreplace"):
		done = c.PosixRename(temp, to)
	case c.Has("hardlink@openssh.com"):
		done = c.Link(temp, to)
		if ahead && !keep {
			removed = c.Remove(temp)
		}
	case c.openSSH:
		done = c.Rename(temp, to) // link and unlink, on the server
	default:
		return s.renameAfterLook(ctx, c, temp, name, folder)
	}
	if !c.openSSH {
		if _, err := done.Wait(ctx); err != nil {
			return false, false, err // the folder must not be synced before
		}
	}
	synced := folder.sync()
	err = done.OK(ctx)
	fault.At("put.published")
	if err == nil {
		if removed == nil && !keep {
			removed = c.Remove(temp) // fails after a rename
		}
		err = synced(ctx)
		fault.At("put.folder-synced")
		if !ahead && !keep && err == nil {
			_, _ = removed.Wait(ctx) // a second name that stays does no harm and is swept
		}
		return true, false, err
	}
	if isLost(err) {
		return false, false, err
	}
	// OpenSSH has one word for a collision and for all other failures.
	_, look := c.Lstat(to).Attrs(ctx)
	switch {
	case look == nil:
		exists, err = s.collision(ctx, c, name)
		return false, exists, err
	case !errors.Is(look, fs.ErrNotExist):
		return false, false, fmt.Errorf("publish %s: %w, and looking for the cause: %w", name, err, look)
	case errors.Is(err, fs.ErrNotExist):
		return false, false, fmt.Errorf("publish %s: the temporary file or the folder has vanished: %v", name, err)
	}
	err = s.noLink(ctx, c, name, err)
	if s.durability == None && errors.Is(err, ErrNotDurable) {
		return s.renameAfterLook(ctx, c, temp, name, folder)
	}
	return false, false, err
}

// noLink explains why the server did not make the link name, which is free,
// though it could make other files.
func (s *SFTP) noLink(ctx context.Context, c *session, name string, err error) error {
	err = s.why(ctx, c, err)
	var status *sftpclient.StatusError
	if !errors.As(err, &status) || errors.Is(err, ErrFull) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	const hint = `if the archive's file system has no hard links, durability = "none" does without them`
	if errors.Is(err, fs.ErrPermission) && !s.writable(ctx, c, name) {
		return err
	}
	return WithHint(fmt.Errorf("%w: publish %s without overwriting another file: %v", ErrNotDurable, name, err), hint)
}

// writable reports whether a file can be made in name's folder: a file system
// without hard links refuses a link as one that may not be made.
func (s *SFTP) writable(ctx context.Context, c *session, name string) bool {
	probe := s.path(path.Join(path.Dir(name), path.Base(tempName(name))))
	h, err := c.Open(probe, sftpclient.Write|sftpclient.Create|sftpclient.Excl, s.fileMode()).Handle(ctx)
	if err != nil {
		return false
	}
	_, _ = h.Close().Wait(ctx)
	if !s.appendOnly {
		_, _ = c.Remove(probe).Wait(ctx)
	}
	return true
}

// renameAfterLook publishes on a server that may replace an existing file: two
// writers of one name at the same moment are not kept apart. Durability None.
func (s *SFTP) renameAfterLook(ctx context.Context, c *session, temp, name string, folder *folderSync) (published, exists bool, err error) {
	to := s.path(name)
	if _, err = c.Lstat(to).Attrs(ctx); err == nil {
		exists, err = s.collision(ctx, c, name)
		return false, exists, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false, false, err
	}
	if err := c.Rename(temp, to).OK(ctx); err != nil {
		return false, false, s.why(ctx, c, err)
	}
	return true, false, folder.sync()(ctx)
}

// collision is the answer to a put of a name that is taken: the existing file
// is synced first, as it may be another writer's who has not got there yet.
func (s *SFTP) collision(ctx context.Context, c *session, name string) (exists bool, err error) {
	attrs, err := c.Stat(s.path(name)).Attrs(ctx)
	if err == nil && !attrs.IsRegular() {
		return false, fmt.Errorf("put %s: something is in the way that is no regular file", s.path(name))
	}
	if err == nil {
		err = s.syncFile(ctx, c, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("put %s: it existed, and now it does not: %v", name, err)
	}
	if err != nil {
		return false, fmt.Errorf("put %s: it exists, and syncing it failed: %w", name, err)
	}
	return true, &fs.PathError{Op: "put", Path: name, Err: fs.ErrExist}
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
		if err := file.Fsync().OK(ctx); err != nil && (s.durability != None || isLost(err)) {
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
		return s.explain(err)
	}
	space, look := c.Space(ctx, s.url.Path)
	switch {
	case look != nil:
		return err
	case space.ReadOnly:
		return fmt.Errorf("%w: the archive's file system is read-only: %w", fs.ErrPermission, err)
	case space.Free < 64<<10 || space.Files > 0 && space.FreeFiles == 0:
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return WithHint(err, "the server gives no reason; look at its log, its quota and its disk")
}
