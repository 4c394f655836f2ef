package main

import (
	"path/filepath"

	"github.com/urfave/cli/v2"
)

func (p *program) setAsideCommand() *cli.Command {
	return &cli.Command{
		Name:      "set-aside",
		Usage:     "keep a WAL file that push refuses under refused/, and let it pass",
		ArgsUsage: "NAME",
		Description: "PostgreSQL archives nothing behind a file that push refuses. When it is clear\n" +
			"that the file is not needed under its name, this stores it under refused/ in\n" +
			"the archive; push then lets exactly this content pass.",
		Flags: append(common(), dataFlag(),
			&cli.StringFlag{Name: "file", Usage: "the file itself, instead of NAME in the data directory's WAL folder"}),
		Action: func(x *cli.Context) error {
			arg, err := arguments(x, "NAME")
			if err != nil {
				return err
			}
			pushers, done, err := p.pushers(x, silencePatient)
			if err != nil {
				return err
			}
			defer done()
			path := x.String("file")
			data, err := dataDir(x.String("D"), path)
			if err != nil {
				return err
			}
			if path == "" {
				if data == nil {
					return errNoDataDir()
				}
				path = filepath.Join(data.WALDir(), arg[0])
			}
			kept, err := pushers.SetAside(x.Context, data, path, arg[0])
			if err != nil {
				return err
			}
			p.print("%s is kept as %s; push lets exactly this content pass from now on", arg[0], kept)
			return nil
		},
	}
}
