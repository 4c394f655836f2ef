package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"walship/internal/fault"
	"walship/internal/pgconf"
	"walship/internal/pgdata"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
	"walship/transport"
	"walship/walname"
)

// rejoin makes what was a primary fit to follow the one that was promoted in its
// place: with pg_rewind, which takes back what it wrote after they parted, or
// with --new-copy by a new copy. What it takes with it is said, and agreed to.
func (s *setup) rejoin(ctx context.Context, f *follower) error {
	if serverRuns(f.data) {
		return transport.WithHint(fmt.Errorf("%w: the server in %s runs", pgserver.ErrServer, f.dir), "stop it first: it would go on taking rows that get lost")
	}
	lock, err := lockData(f.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	own := f.data.Control.Timeline
	if k := s.keptFor(f.dir); k.complete() && own == f.is.Timeline { // stopped behind the rewind, whose last step gives the timeline
		return localError(errors.Join(allowStart(f.dir), k.putBack()))
	}
	if f.is.Timeline <= own {
		return transport.WithHint(fmt.Errorf("%w: %s is on timeline %d and the primary %s on %d: nobody was promoted in its place", errNotAgreed, f.dir, own, f.follow.Host, f.is.Timeline),
			"promote the standby first (pg_ctl promote), or start this server again")
	}
	fork, err := pgserver.Fork(ctx, f.primary, f.is.Timeline, own)
	if err != nil {
		return err
	}
	s.line("parted", "timeline %d went on as %d at %s: %s", own, f.is.Timeline, fork, s.written(ctx, f, fork))
	how := "pg_rewind"
	if s.x.Bool("new-copy") {
		how = "a new copy"
	}
	if err := s.agree(fmt.Sprintf("what %s wrote after %s is lost, unless you save it first; make it follow %s by %s?", f.dir, fork, f.follow.Host, how), "--force"); err != nil {
		return err
	}
	if s.dry {
		s.changed++
		s.line("would run", "%s", how)
		return nil
	}
	var options []string
	if !s.x.Bool("new-copy") {
		if options, err = s.fromArchive(f); err != nil {
			return err
		}
	}
	kept, err := s.keepConf(f.dir)
	if err != nil {
		return localError(err)
	}
	s.changed++
	if s.x.Bool("new-copy") {
		away := f.dir + ".old-" + time.Now().Format("20060102-150405")
		if err := os.Rename(f.dir, away); err != nil {
			return localError(err)
		}
		s.line("kept", "the old data directory, as %s", away)
		fault.At("setup.movedaway")
		f.data = nil
		if err := s.copyCluster(ctx, f); err != nil {
			return err
		}
	} else if err := s.rewind(ctx, f, options, lock); err != nil {
		if same, unread := kept.unneeded(); same && unread == nil && !halfRewound(f.dir) {
			_ = os.RemoveAll(kept.from) // the error counts
		}
		return err
	}
	fault.At("setup.rewound")
	if err := kept.putBack(); err != nil {
		return localError(err)
	}
	f.data, err = pgdata.Open(f.dir)
	return err
}

// written says how far the old primary has come beyond the fork, as far as it is
// known.
func (s *setup) written(ctx context.Context, f *follower, fork walname.LSN) string {
	at, err := latestCheckpoint(ctx, f.data)
	switch {
	case err != nil:
		return "how much was written here after it is not known"
	case at > fork:
		return fmt.Sprintf("the WAL here goes on for at least %s after it", bytesText(int64(at-fork)))
	}
	return fmt.Sprintf("the last checkpoint here, at %s, was before it", at)
}

// latestCheckpoint asks pg_controldata.
func latestCheckpoint(ctx context.Context, d *pgdata.Dir) (walname.LSN, error) {
	value, err := controlData(ctx, d, "Latest checkpoint location")
	if err != nil {
		return 0, err
	}
	return walname.ParseLSN(value)
}

// controlData asks pg_controldata for one of its lines.
func controlData(ctx context.Context, d *pgdata.Dir, name string) (string, error) {
	install, err := pgrun.Find(ctx, d.Version, "")
	if err != nil {
		return "", err
	}
	program, ok := install.Program("pg_controldata")
	if !ok {
		return "", fmt.Errorf("%w: %s has no pg_controldata", pgrun.ErrNoServer, install.Bin)
	}
	cmd := exec.CommandContext(ctx, program, d.Path)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(out)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("pg_controldata does not tell the %s", strings.ToLower(name))
}

// keptConf is the configuration of a data directory, kept outside it: what
// pg_rewind or a new copy bring is that of the other server.
type keptConf struct{ dir, from string }

// confFiles are the files of a data directory that are its own.
var confFiles = []string{"postgresql.conf", pgconf.OwnFile, "pg_hba.conf", "pg_ident.conf", "postgresql.auto.conf"}

// keepConf copies the files, unless an earlier run has kept them already.
func (s *setup) keepConf(dir string) (keptConf, error) {
	k := s.keptFor(dir)
	if k.complete() {
		return k, nil
	}
	for _, name := range append(confFiles, "complete") {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return k, err
		}
		e, err := pgconf.Open(filepath.Join(k.from, name), 0o600)
		if err != nil {
			return k, err
		}
		if name == "complete" {
			text = []byte("all files that there are have been kept\n")
		}
		e.New, e.Secret = text, true
		if err := e.Write(); err != nil {
			return k, err
		}
	}
	return k, nil
}

func (s *setup) keptFor(dir string) keptConf {
	return keptConf{dir: dir, from: s.own("rejoin" + strings.ReplaceAll(dir, "/", "-"))}
}

// complete reports whether all files have been kept.
func (k keptConf) complete() bool {
	_, err := os.Stat(filepath.Join(k.from, "complete"))
	return err == nil
}

// unneeded reports whether the data directory has the files as they were kept.
func (k keptConf) unneeded() (bool, error) {
	for _, name := range confFiles {
		now, err1 := os.ReadFile(filepath.Join(k.dir, name))
		then, err2 := os.ReadFile(filepath.Join(k.from, name))
		if errors.Is(err1, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist) {
			continue
		}
		if err := errors.Join(err1, err2); err != nil {
			return false, err
		}
		if !bytes.Equal(now, then) {
			return false, nil
		}
	}
	return true, nil
}

// putBack writes the files where they were.
func (k keptConf) putBack() error {
	for _, name := range confFiles {
		text, err := os.ReadFile(filepath.Join(k.from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		e, err := pgconf.Open(filepath.Join(k.dir, name), 0o600)
		if err != nil {
			return err
		}
		e.New, e.Secret = text, true
		if err := e.Write(); err != nil {
			return err
		}
	}
	return os.RemoveAll(k.from)
}
