package transport

import (
	"context"
	"fmt"
	"io"
	"path"
)

// Replace gives the existing file name another content, at once and durably, as
// SFTP's Replace does:
//
//	openat(TEMP, O_CREAT|O_EXCL|O_WRONLY)  pwrite64(TEMP)  fsync(TEMP)  close(TEMP)
//	renameat(TEMP, name)  fsync(folder of name)  fsync(its parent)
func (l *Local) Replace(ctx context.Context, name string, content []byte) error {
	root, err := l.begin(ctx, "replace", name)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if err != nil {
		return l.explain(err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("replace %s: it is no regular file", l.path(name))
	}
	temp := tempName(name)
	if err := l.makeFolder(root, path.Dir(temp), topFolder(name)); err != nil {
		return l.explain(err)
	}
	err = l.writeTemp(ctx, root, temp, func(w io.WriterAt) error {
		_, err := w.WriteAt(content, 0)
		return err
	})
	if err == nil {
		err = l.explain(root.Rename(temp, name))
	}
	if err != nil {
		root.Remove(temp)
		return err
	}
	return l.explain(l.syncFolders(root, name))
}
