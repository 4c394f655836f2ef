package testpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// BaseBackup takes a base backup of the running server into the new folder
// into, whose parent the server's user can write to. With wal it holds the WAL
// that makes it consistent; without, that must come from an archive, and on a
// primary that archives BaseBackup waits until it is there. It is
// pg_basebackup's where that belongs to the server's version, else a copy
// between PostgreSQL's backup functions.
func (c *Cluster) BaseBackup(into string, wal bool) error {
	if _, err := os.Lstat(into); err == nil { // cp would copy into it
		return fmt.Errorf("base backup: %s exists", into)
	}
	if executable(filepath.Join(c.Bin, "pg_basebackup")) {
		method := map[bool]string{true: "stream", false: "none"}[wal]
		_, err := c.Run("pg_basebackup", "-D", into, "-X", method, "-c", "fast", "--no-sync")
		return err
	}
	return c.copyBackup(into, wal)
}

func (c *Cluster) copyBackup(into string, wal bool) error {
	start, stop := "pg_backup_start('copy', true)", "pg_backup_stop(%t)"
	if c.Major < 15 {
		start, stop = "pg_start_backup('copy', true, false)", "pg_stop_backup(false, %t)"
	}
	// One session from start to stop. Files may vanish under cp, which is why
	// its complaints count for nothing; what must be there is looked for below.
	label, err := c.Psql(strings.Join([]string{
		`select ` + start + ` \g /dev/null`,
		`\! cp -a ` + c.Data + ` ` + into + ` 2>/dev/null`,
		`select labelfile from ` + fmt.Sprintf(stop, !wal),
	}, "\n"))
	if err != nil {
		return fmt.Errorf("base backup: %w", err)
	}
	for _, needed := range []string{"PG_VERSION", "global/pg_control", "base/1"} {
		if _, err := os.Stat(filepath.Join(into, needed)); err != nil {
			return fmt.Errorf("base backup: %w", err)
		}
	}
	for _, running := range []string{"postmaster.pid", "postmaster.opts", "pg_wal"} {
		if err := os.RemoveAll(filepath.Join(into, running)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(into, "pg_wal", "archive_status"), 0o700); err != nil {
		return err
	}
	if wal {
		// A checkpoint has not yet recycled what was written a moment ago.
		if err := copyFiles(filepath.Join(c.Data, "pg_wal"), filepath.Join(into, "pg_wal")); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(into, "backup_label"), []byte(label), 0o600); err != nil {
		return err
	}
	return Own(into)
}

// copyFiles copies the regular files of a folder, none below it.
func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			err := copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // see copyTree
				return err
			}
		}
	}
	return nil
}

// copyTree copies a folder with its modes and symbolic links to a new one. What
// vanishes meanwhile is left out: a running server removes files as it pleases,
// and its WAL makes up for it.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			info, err := d.Info()
			if err != nil {
				return err
			}
			return os.Mkdir(target, info.Mode().Perm())
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case d.Type().IsRegular():
			if err := copyFile(path, target); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil // a socket
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Close())
}
