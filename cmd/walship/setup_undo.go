package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"walship/internal/fault"
	"walship/transport"
)

func (p *program) setupUndoCommand() *cli.Command {
	return &cli.Command{
		Name:  "setup undo",
		Usage: "put back the files that setup has changed",
		Description: "Every file that setup has changed becomes what it was before, byte for byte,\n" +
			"and what setup has made is removed. A file that has changed since is left, and\n" +
			"nothing is put back then. With -D only the files of that server; without it all,\n" +
			"walship's own configuration and key included. Roles, slots and the archive stay.",
		Flags: append(append(common(), &cli.BoolFlag{Name: "dry-run", Usage: "show every change to a file, and make none"}), setupDataFlag("only the files of the server with this data directory")),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			s, err := p.newSetup(x)
			if err != nil {
				return err
			}
			return s.undo()
		},
	}
}

func (s *setup) undo() error {
	data := s.x.String("D")
	if data != "" {
		var err error
		if data, err = absolute(data); err != nil {
			return err
		}
		data = realDir(data)
	}
	edits, err := s.journal.Undo(data)
	if err != nil {
		return transport.WithHint(fmt.Errorf("%w: %w", errNotAgreed, err), "put back by hand what you want back: the file as it was is kept beside it, as .before-walship")
	}
	for _, e := range edits {
		if name := filepath.Base(e.Path); e.New == nil && (name == "standby.signal" || name == "recovery.conf") {
			return transport.WithHint(fmt.Errorf("%w: %s is a standby: without %s it would start as a second primary", errNotAgreed, filepath.Dir(e.Path), name),
				"promote it if that is what you want (pg_ctl promote), or stop it and remove its data directory")
		}
	}
	for _, e := range edits {
		s.changed++
		if s.dry {
			s.showDiff(e)
			continue
		}
		if err := e.Write(); err != nil {
			return localError(err)
		}
		fault.At("setup.undone")
		what := "put back"
		if e.New == nil {
			what = "removed"
		}
		s.line(what, "%s", e.Path)
	}
	if s.dry {
		s.finish()
		return nil
	}
	if err := s.journal.Forget(data); err != nil {
		return localError(err)
	}
	if s.changed == 0 {
		s.line("unchanged", "setup has changed no file%s that is not put back", map[bool]string{true: " of " + data}[data != ""])
		return nil
	}
	s.line("left", "roles, replication slots and the archive; a server that runs keeps its settings until it is reloaded, some of them until it is restarted")
	return nil
}
