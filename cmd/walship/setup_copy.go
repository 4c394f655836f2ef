package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"walship/internal/basebackup"
	"walship/internal/fault"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
	"walship/restore"
	"walship/transport"
)

// copyCluster fills the data directory: from the archive, or from the primary.
func (s *setup) copyCluster(ctx context.Context, f *follower) error {
	if !s.x.Bool("from-primary") {
		done, err := s.copyFromArchive(ctx, f)
		if done || err != nil {
			return err
		}
	}
	return s.copyFromPrimary(ctx, f)
}

// copyFromArchive is false if the archive has no backup.
func (s *setup) copyFromArchive(ctx context.Context, f *follower) (done bool, err error) {
	st := &reopening{open: func() (store, error) { return open(ctx, s.conf, silencePatient) }}
	defer st.Close()
	r := &restore.Restorer{Store: st, Keys: keys(s.conf), Warn: s.warn}
	o := restore.Options{Dir: f.dir, Cluster: f.is.SystemID, RestoreCommand: f.follow.RestoreCommand, Standby: true, TakeOver: true}
	if has, err := hasBackup(ctx, st, layout.Cluster{SystemID: f.is.SystemID}); err != nil {
		return false, err
	} else if !has {
		s.line("backup", "the archive has none: the copy comes from the primary")
		return false, nil
	}
	plan, err := r.Plan(ctx, o)
	if err != nil {
		return false, err
	}
	s.changed++
	s.line("backup", "%s, %s, PostgreSQL %s", plan.Manifest.Backup, bytesText(plan.Manifest.Size), plan.Version)
	for _, note := range plan.Notes {
		s.line("note", "%s", note)
	}
	if s.dry {
		s.line("would restore", "it into %s", f.dir)
		s.finish()
		return true, nil
	}
	bar := s.progress("restore", plan.Manifest.Size)
	defer bar.stop()
	r.Progress = bar.add
	if _, err = r.Run(ctx, plan); err != nil {
		return false, incomplete(err, plan)
	}
	bar.stop()
	s.line("restored", "into %s", f.dir)
	f.data, err = pgdata.Open(f.dir)
	return true, err
}

// hasBackup reports whether the archive has a base backup of the cluster, finished
// or not.
func hasBackup(ctx context.Context, st restore.Store, c layout.Cluster) (has bool, err error) {
	err = st.List(ctx, basebackup.Root(c), func(e transport.FileInfo) error {
		_, err := basebackup.ParseID(e.Name)
		has = has || err == nil
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return has, err
}

// copyFromPrimary runs pg_basebackup.
func (s *setup) copyFromPrimary(ctx context.Context, f *follower) error {
	program, err := basebackupProgram(ctx)
	if err != nil {
		return err
	}
	words := []string{program, "-D", f.dir, "-X", "stream", "-c", "fast", "-d", f.follow.ConnInfo()}
	s.changed++
	if s.dry {
		s.line("would run", "%s", strings.Join(words, " "))
		s.finish()
		return nil
	}
	// Beside it, and moved when it is whole: half a copy must not look like one.
	beside := f.dir + ".walship-copy"
	if err := os.RemoveAll(beside); err != nil {
		return localError(err)
	}
	words[2] = beside
	s.line("copying", "from the primary, with pg_basebackup")
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "PGPASSFILE="+f.follow.Passfile)
	cmd.Stderr = s.err
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("%w: pg_basebackup: %w", pgserver.ErrServer, err), os.RemoveAll(beside))
	}
	fault.At("setup.basebackup")
	if err := os.Remove(f.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return localError(err)
	}
	if err := os.Rename(beside, f.dir); err != nil {
		return localError(err)
	}
	s.line("copied", "into %s", f.dir)
	f.data, err = pgdata.Open(f.dir)
	return err
}

// basebackupProgram finds a pg_basebackup. Which version the primary has is not
// known before; a newer one copies older servers too.
func basebackupProgram(ctx context.Context) (string, error) {
	for v := pgdata.Version(180000); v >= 90100; {
		if install, err := pgrun.Find(ctx, v, ""); err == nil {
			if path, ok := install.Program("pg_basebackup"); ok {
				return path, nil
			}
		}
		switch {
		case v > 100000:
			v -= 10000
		case v == 100000:
			v = 90600
		default:
			v -= 100
		}
	}
	return "", transport.WithHint(fmt.Errorf("%w: there is no pg_basebackup on this machine to copy from the primary with", pgrun.ErrNoServer),
		"run walship backup on the primary; then this takes the backup from the archive")
}
