package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"

	"walship/internal/basebackup"
	"walship/internal/fault"
	"walship/internal/pgdata"
	"walship/transport"
	"walship/walname"
)

// Run restores. When it returns nil the data directory and its tablespaces are
// whole: each file has the size and the SHA-256 that the backup's manifest
// vouches for, recovery is configured, and all is on stable storage. After an
// error, or a kill, what has been written is marked as incomplete and has no
// global/pg_control, so that no server starts in it; another Run to the same
// folders clears it away and begins anew.
func (r *Restorer) Run(ctx context.Context, p *Plan) (*Result, error) {
	fault.At("restore.begin")
	f, err := r.open(p)
	if f != nil {
		defer f.close()
	}
	if err != nil {
		return nil, err
	}
	res := &Result{}
	if f.whole {
		// Only the marks were left.
		res.Resumed = true
		if err := f.settle(p, res); err != nil {
			return nil, err
		}
		return res, f.unmark()
	}
	fault.At("restore.marked")
	if err := r.unpack(ctx, p, f.targets); err != nil {
		return nil, err
	}
	fault.At("restore.unpacked")
	if err := r.finish(ctx, p, f, res); err != nil {
		return nil, err
	}
	for _, t := range f.all {
		if err := t.lockUp(); err != nil {
			return nil, local(err)
		}
	}
	fault.At("restore.configured")
	if err := f.sync(); err != nil {
		return nil, local(err)
	}
	fault.At("restore.synced")
	if err := local(errors.Join(f.main.Rename(controlAside, controlFile), syncFolder(f.main.Root, "global"))); err != nil {
		return nil, err
	}
	fault.At("restore.control")
	if err := f.unmark(); err != nil {
		return nil, err
	}
	fault.At("restore.done")
	return res, nil
}

// folders are those that are being filled.
type folders struct {
	main    *tree
	all     []*tree // main first
	targets map[uint32]target
	locks   []*os.File
	whole   bool // an earlier run had done everything but remove the marks
}

func (f *folders) close() {
	for _, t := range f.all {
		_ = t.Close()
	}
	for _, l := range f.locks {
		_ = l.Close()
	}
}

// open makes and marks the folders, and clears away what an earlier restore has
// left in them.
func (r *Restorer) open(p *Plan) (*folders, error) {
	if err := p.vacant(); err != nil {
		return nil, err
	}
	owner := OwnerOf(p.Options)
	f := &folders{targets: make(map[uint32]target)}
	m := p.mark()
	add := func(dir string) (*tree, error) {
		t, err := openTree(dir, owner)
		if t != nil {
			f.all = append(f.all, t)
		}
		if err != nil {
			return nil, err
		}
		l, err := lock(t.Root)
		if err != nil {
			return nil, local(err)
		}
		f.locks = append(f.locks, l)
		// Another restore may have been here since vacant looked.
		old, err := state(dir)
		if err != nil {
			return nil, err
		}
		switch {
		case f.whole:
			return t, nil
		case old.full && (old.mark == nil || old.mark.Directory != p.Dir):
			return nil, locally("%s is not empty", dir)
		case old.full && t == f.all[0]:
			if f.whole, err = f.isWhole(t, *old.mark, m); err != nil {
				return nil, err
			}
			if f.whole {
				return t, nil
			}
		}
		if err := local(t.Chmod(".", 0o700)); err != nil {
			return nil, err
		}
		if err := local(m.put(t.Root)); err != nil {
			return nil, err
		}
		fault.At("restore.mark")
		return t, local(t.clear())
	}
	main, err := add(p.Dir)
	if err != nil {
		return f, err
	}
	f.main = main
	f.targets[0] = target{tree: main, main: true}
	for _, t := range p.Tablespaces {
		if t.To == "" {
			f.targets[t.OID] = target{tree: main, prefix: path.Join("pg_tblspc", strconv.FormatUint(uint64(t.OID), 10))}
			continue
		}
		to, err := add(t.To)
		if err != nil {
			return f, err
		}
		f.targets[t.OID] = target{tree: to}
	}
	return f, nil
}

// isWhole reports whether the marked folder lacks nothing but the removal of its
// marks. Somebody may have started a server in it, so it is never cleared.
func (f *folders) isWhole(t *tree, old, now mark) (bool, error) {
	_, err := t.Lstat(controlFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, local(err)
	}
	now.Note = old.Note // of another version, perhaps
	if old != now {
		return false, transport.WithHint(
			locally("%s holds a whole restore of backup %s to %s that only lacks the removal of its marks", t.Name(), old.Backup, old.Target),
			"run the same command as then to finish it, or remove the folder")
	}
	return true, nil
}

// sync puts everything on stable storage.
func (f *folders) sync() error {
	for _, t := range f.all {
		if err := syncTree(t.Root); err != nil {
			return err
		}
		// The folder's own entry, in the folder above it.
		if err := syncAbove(t.Name()); err != nil {
			return err
		}
	}
	return nil
}

// unmark removes the marks, the data directory's last.
func (f *folders) unmark() error {
	for i := len(f.all) - 1; i >= 0; i-- {
		t := f.all[i]
		if err := t.Remove(markFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return local(err)
		}
		if err := syncFolder(t.Root, "."); err != nil {
			return local(err)
		}
		fault.At("restore.unmark")
	}
	return nil
}

// mark is what the folders carry meanwhile.
func (p *Plan) mark() mark {
	return mark{
		Note:      "walship restore is filling this folder; it is not whole. Run the same command again, or remove the folder.",
		Directory: p.Dir, Cluster: p.Cluster.SystemID, Backup: p.Manifest.Backup, Target: p.Target.String(),
		Timeline: uint32(p.Timeline), Settings: p.digest(),
	}
}

// finish makes a data directory of the unpacked files: links, folders, leftovers,
// configuration.
func (r *Restorer) finish(ctx context.Context, p *Plan, f *folders, res *Result) error {
	if err := r.verifyLabel(p, f.main); err != nil {
		return err
	}
	if err := local(p.links(f.main)); err != nil {
		return err
	}
	if err := local(p.tidy(f.main)); err != nil {
		return err
	}
	if ref := p.Manifest.ServerManifest; ref != nil {
		if err := r.copyTo(ctx, p, *ref, f.main, basebackup.ServerManifestFile); err != nil {
			return err
		}
	}
	fault.At("restore.linked")
	if err := r.config(ctx, p, f.main, res); err != nil {
		return err
	}
	return f.settle(p, res)
}

// verifyLabel compares the backup's own files with what its manifest says.
func (r *Restorer) verifyLabel(p *Plan, t *tree) error {
	bad := func(name, format string, args ...any) error {
		return fmt.Errorf("backup %s: %w: %s: %s", p.Manifest.Backup, basebackup.ErrDamaged, name, fmt.Sprintf(format, args...))
	}
	version, err := t.ReadFile("PG_VERSION")
	if err != nil {
		return local(err)
	}
	if v, err := pgdata.ParseVersion(string(version)); err != nil || v != p.Version {
		return bad("PG_VERSION", "%q, its manifest says %s", version, p.Manifest.PostgreSQL)
	}
	control, err := t.ReadFile(controlAside)
	if err != nil {
		return local(err)
	}
	if c, err := pgdata.ParseControl(control); err != nil {
		return bad(controlFile, "%v", err)
	} else if c.SystemID != p.Cluster.SystemID {
		return bad(controlFile, "it is of cluster %d", c.SystemID)
	}
	text, err := t.ReadFile(labelFile)
	if err != nil {
		return local(err)
	}
	label, err := walname.ParseBackupLabel(text)
	if err != nil {
		return bad(labelFile, "%v", err)
	}
	if label.Start != p.Manifest.StartLSN {
		return bad(labelFile, "recovery begins at %s, its manifest says %s", label.Start, p.Manifest.StartLSN)
	}
	return nil
}

// copyTo writes a small file of the backup's folder into the tree.
func (r *Restorer) copyTo(ctx context.Context, p *Plan, ref basebackup.Ref, t *tree, name string) error {
	return r.patiently(ctx, func() error {
		t.Remove(name)
		out, err := t.create(name, 0o600)
		if err != nil {
			return local(err)
		}
		err = r.content(ctx, p, ref, func(content io.Reader) error {
			buf := make([]byte, 64<<10)
			for {
				n, err := content.Read(buf)
				if _, err := out.Write(buf[:n]); err != nil {
					return local(err)
				}
				if err != nil {
					return nil // what it is, content's caller knows
				}
			}
		})
		return errors.Join(err, local(out.Close()))
	})
}
