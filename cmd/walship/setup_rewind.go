package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"walship/internal/fault"
	"walship/internal/pgconf"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
	"walship/transport"
)

// otherWay is what remains where pg_rewind cannot help.
const otherWay = "with --new-copy the old folder is moved away and a new copy is made"

// rewind runs pg_rewind. While it works the data directory is neither the old
// primary nor a standby, so no server may start there, whatever ends the work and
// whoever starts it, systemd after a power cut included. pg_rewind goes over all
// that lies in the directory, but not over its mode: see forbidStart.
func (s *setup) rewind(ctx context.Context, f *follower, options []string, lock *os.File) error {
	install, err := pgrun.Find(ctx, f.data.Version, "")
	if err != nil {
		return transport.WithHint(err, otherWay)
	}
	program, err := rewindProgram(ctx, f, install)
	if err != nil {
		return err
	}
	user := s.textFlag("rewind-user", os.Getenv("PGUSER"))
	if user == "" {
		user = "postgres"
	}
	source := pgconf.Standby{Host: f.follow.Host, Port: f.follow.Port, Role: user, Version: f.data.Version, Passfile: f.follow.Passfile}
	if _, found := os.LookupEnv("PGPASSFILE"); found {
		source.Passfile = ""
	}
	if err := s.checkpoint(ctx, f, source); err != nil {
		return err
	}
	if err := s.shutDownCleanly(ctx, f, install); err != nil {
		return err
	}
	earlier := halfRewound(f.dir)
	if err := forbidStart(f.dir); err != nil {
		return localError(err)
	}
	fault.At("setup.rewinding")
	words := append([]string{program, "-D", f.dir, "--source-server", source.ConnInfo() + " dbname=postgres"}, options...)
	s.line("rewinding", "%s", strings.Join(words, " "))
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.ExtraFiles = []*os.File{lock}
	failed := cmd.Run()
	// Half of it may have been done, by this run or by an earlier one.
	half := failed != nil && (earlier || strings.Contains(said.String(), "rewinding from last common checkpoint"))
	if !half {
		if err := allowStart(f.dir); err != nil {
			return localError(err)
		}
	}
	if failed == nil {
		return nil
	}
	failed = fmt.Errorf("%w: pg_rewind: %w: %s", pgserver.ErrServer, failed, telling(said.String()))
	if half {
		return transport.WithHint(failed, f.dir+" is half rewound, and no server starts there; run this again, and if that does not help, add --new-copy, which moves the folder away and makes a new copy")
	}
	return transport.WithHint(failed, "pg_rewind has changed nothing; it needs a superuser (--rewind-user, with a line in "+f.follow.Passfile+
		" and in the primary's pg_hba.conf), and wal_log_hints or checksums; "+otherWay)
}

// lockData sees to it that only one run works on a data directory that is to
// rejoin. pg_rewind, which does not notice another one, inherits the lock, and so
// has it for as long as it works, even if its setup is gone.
func lockData(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, localError(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		_ = f.Close() // nothing was written
		return nil, transport.WithHint(fmt.Errorf("%w: another run, or pg_rewind as it has started it, still works in %s", pgserver.ErrServer, dir), "wait for its end, then run this again")
	}
	return f, nil // a file system that knows no locks is no reason to stop
}

// forbidStart gives a data directory a mode with which PostgreSQL does not start
// ("invalid permissions"): that others may enter it, which shows them nothing, as
// they may read nothing in it.
func forbidStart(dir string) error { return chmodData(dir, halfMode, 0) }

// allowStart takes that back.
func allowStart(dir string) error { return chmodData(dir, 0, halfMode) }

const halfMode fs.FileMode = 0o001

func chmodData(dir string, add, remove fs.FileMode) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode().Perm()&^remove|add)
}

// halfRewound reports whether pg_rewind has begun in the directory and, as far as
// is known, not come to its end.
func halfRewound(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&halfMode != 0
}

// telling is the line of what a program has said that tells why it failed.
func telling(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	for _, line := range lines {
		if strings.Contains(line, "error:") || strings.Contains(line, "fatal:") || strings.Contains(line, "FATAL:") || strings.Contains(line, "PANIC:") {
			return line
		}
	}
	return lines[len(lines)-1]
}

// noProgram says that a program is missing, or of the wrong version.
type noProgram string

func (e noProgram) Error() string { return string(e) }
func (noProgram) Unwrap() error   { return pgrun.ErrNoServer }

// rewindProgram finds the pg_rewind of the server's version: another one would not
// know its files.
func rewindProgram(ctx context.Context, f *follower, install pgrun.Install) (string, error) {
	program, ok := install.Program("pg_rewind")
	if !ok {
		return "", transport.WithHint(noProgram(fmt.Sprintf("there is no pg_rewind of PostgreSQL %s in %s", f.data.Version, install.Bin)), otherWay)
	}
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Dir = "/"
	out, err := cmd.Output()
	is, found := pgrun.VersionIn(string(out))
	if err != nil || !found || is != f.data.Version {
		return "", transport.WithHint(noProgram(fmt.Sprintf("%s is of another version (%s) than %s, which is of PostgreSQL %s", program, cmp.Or(strings.TrimSpace(string(out)), "it does not say which"), f.dir, f.data.Version)),
			"put the programs of PostgreSQL "+f.data.Version.String()+" first in PATH; "+otherWay)
	}
	return program, nil
}

// shutDownCleanly lets a server that has crashed recover and shut down, which
// pg_rewind wants before it begins, and before 13 does not do itself.
func (s *setup) shutDownCleanly(ctx context.Context, f *follower, install pgrun.Install) error {
	state, err := controlData(ctx, f.data, "Database cluster state")
	if err != nil {
		return fmt.Errorf("%w: %w", pgserver.ErrServer, err)
	}
	if strings.HasPrefix(state, "shut down") {
		return nil
	}
	program, _ := install.Program("postgres") // it was found by this one
	words := []string{program, "--single", "-F", "-D", f.dir}
	if conf, err := f.confFile(); err == nil && filepath.Dir(conf) != f.dir {
		words = append(words, "-c", "config_file="+conf)
	}
	s.line("recovering", "the old primary, which was not shut down: %s", strings.Join(words, " "))
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, words[0], append(words[1:], "template1")...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return transport.WithHint(fmt.Errorf("%w: the old primary in %s does not recover: %w: %s", pgserver.ErrServer, f.dir, err, telling(said.String())),
			"start it once and stop it, then run this again; "+otherWay)
	}
	return nil
}

// fromArchive lets pg_rewind, from 13 on, fetch from the archive what it needs of
// the old primary's WAL and that one no longer has: it returns the options. The
// command has to stand in the server's configuration.
func (s *setup) fromArchive(f *follower) (options []string, err error) {
	conf, err := f.confFile()
	if err != nil || f.data.Version < 130000 {
		return nil, err
	}
	options = []string{"--restore-target-wal"}
	if filepath.Dir(conf) != f.dir {
		if f.data.Version < 150000 { // it looks in the data directory only
			return nil, nil
		}
		options = append(options, "--config-file="+conf)
	}
	file, err1 := pgconf.Open(filepath.Join(filepath.Dir(conf), pgconf.OwnFile), 0o600)
	main, err2 := pgconf.Open(conf, 0o600)
	if err := errors.Join(err1, err2); err != nil {
		return nil, localError(err)
	}
	set := []pgconf.Assignment{{Name: "restore_command", Value: f.follow.RestoreCommand}}
	if file.New, err = pgconf.Render(f.data.Version, pgconf.Merge(file.Old, set, []string{"restore_command"})); err != nil {
		return nil, err
	}
	main.New = pgconf.AddInclude(main.Old, false)
	file.Data, main.Data = realDir(f.data.Path), realDir(f.data.Path)
	return options, errors.Join(s.write(file), s.write(main))
}

// checkpoint makes the new primary write one. Until it has, its pg_control names
// the old timeline, and pg_rewind before 16 finds nothing to do.
func (s *setup) checkpoint(ctx context.Context, f *follower, source pgconf.Standby) error {
	conn, err := pgserver.Connect(ctx, pgserver.Params{ConnString: source.ConnInfo() + " dbname=postgres"})
	if err != nil {
		return transport.WithHint(err, "pg_rewind logs in as a superuser (--rewind-user, with a line in "+source.Passfile+
			" and in the primary's pg_hba.conf); "+otherWay)
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.Query(ctx, "CHECKPOINT")
	return err
}
