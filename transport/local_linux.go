package transport

import (
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// renameNoReplace renames from to to, unless to exists. Its errors wrap those of
// renameat2: EEXIST, and EINVAL or ENOSYS where this is not to be had.
func renameNoReplace(root *os.Root, from, to string) error {
	source, err := openFolder(root, path.Dir(from))
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := openFolder(root, path.Dir(to))
	if err != nil {
		return err
	}
	defer target.Close()
	err = unix.Renameat2(int(source.Fd()), path.Base(from), int(target.Fd()), path.Base(to), unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}
