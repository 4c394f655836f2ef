package transport

import (
	"context"
	"fmt"
	"io"
	"path"
)

// Replace gives the existing file name another content, at once and durably:
// whoever reads it sees the old content or the new one, whole. It is for the
// archive's own description, never for what is stored in it. Nil means that the
// new content and the folder entry are on stable storage, as far as the store's
// Durability demands. A file that does not exist is fs.ErrNotExist. After another
// error the content is the old or the new one, and a retry is safe.
//
//	open(temp, CREAT|EXCL)  write  fsync(temp)  close(temp)
//	posix-rename(temp, name)  fsync(folder)  fsync(parent)
func (s *SFTP) Replace(ctx context.Context, name string, content []byte) error {
	if err := valid("replace", name); err != nil {
		return err
	}
	return s.try(ctx, func(c *session) error { return s.replace(ctx, c, name, content) })
}

func (s *SFTP) replace(ctx context.Context, c *session, name string, content []byte) (err error) {
	if err := s.promises(c); err != nil {
		return err
	}
	if !c.Has("posix-rename@openssh.com") {
		return WithHint(fmt.Errorf("%w: %s cannot replace a file at once (no posix-rename@openssh.com)", ErrNotDurable, s.url.Host),
			"do it on the archive host itself, with file:// in the URL")
	}
	attrs, err := c.Lstat(s.path(name)).Attrs(ctx)
	if err != nil {
		return err
	}
	if !attrs.IsRegular() {
		return fmt.Errorf("replace %s: it is no regular file", s.path(name))
	}
	temp := tempName(name)
	folder := s.openFolder(c, path.Dir(name))
	defer folder.close()
	file, err := s.create(ctx, c, temp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = c.Remove(s.path(temp)).Wait(ctx)
		}
	}()
	if err := folder.ready(ctx); err != nil {
		file.Close()
		return err
	}
	if err := s.fill(ctx, c, file, func(w io.WriterAt) error {
		_, err := w.WriteAt(content, 0)
		return err
	}); err != nil {
		return err
	}
	if err := c.PosixRename(s.path(temp), s.path(name)).OK(ctx); err != nil {
		return s.why(ctx, c, err)
	}
	return folder.sync()(ctx)
}
