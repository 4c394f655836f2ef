package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"walship/internal/pgconf"
	"walship/transport"
)

// findPassword finds the password file that leads to the primary, and asks for the
// password on a terminal if there is none. What was typed is kept once it was
// seen to work.
func (s *setup) findPassword(ctx context.Context, f *follower) error {
	path := s.x.String("passfile")
	if path == "" {
		path = s.own("pgpass")
		if f.data != nil && f.data.Version < 100000 {
			path = s.passfile(f.data.Version)
		}
	}
	path, err := absolute(path)
	if err != nil {
		return err
	}
	e, err := pgconf.Open(path, 0o600)
	if err != nil {
		return localError(err)
	}
	e.Secret = true
	f.follow.Passfile, f.follow.Version = path, 100000 // until the version is known
	f.primary.ConnString = f.follow.ConnInfo() + " connect_timeout=10"
	if e.Old != nil {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			return transport.WithHint(fmt.Errorf("%w: password file %s can be read by others (mode %04o)", errLocalFile, path, info.Mode().Perm()), "chmod 600 "+shellWord(path))
		}
		return nil
	}
	if !isTTY(os.Stdin) || !isTerminal(s.err) {
		return transport.WithHint(fmt.Errorf("%w: there is no password file %s", errLocalFile, path),
			"copy it from the primary, where setup primary has told its name, with mode 0600; --passfile names another, ~/.pgpass before PostgreSQL 10")
	}
	password, err := s.askPassword(ctx, fmt.Sprintf("password of %s on %s: ", f.follow.Role, f.follow.Host))
	if err != nil {
		return localError(err)
	}
	e.New = pgconf.SetPassword(nil, f.follow.Role, password)
	f.typed = &e
	f.primary.ConnString += " password=" + pgconf.ConnWord(password)
	return nil
}

// askPassword reads a line from the terminal, which does not show it.
func (s *setup) askPassword(ctx context.Context, prompt string) (string, error) {
	terminal := int(os.Stdin.Fd())
	before, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	// Ctrl-C must not leave a terminal behind that shows nothing.
	defer context.AfterFunc(ctx, func() { _ = term.Restore(terminal, before) })()
	fmt.Fprintf(s.err, "walship: %s", oneLine(prompt))
	password, err := term.ReadPassword(terminal)
	fmt.Fprintln(s.err)
	return strings.TrimSpace(string(password)), err
}
