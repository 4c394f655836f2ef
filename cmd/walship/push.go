package main

import (
	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/fault"
	"walship/internal/stored"
)

func pushCommand(v *voice, c caller) *cli.Command {
	return &cli.Command{
		Name:      "push",
		Usage:     "put a WAL file into the archive (for archive_command)",
		ArgsUsage: "PATH NAME",
		Description: "archive_command = 'walship push %p %f'\n\n" +
			"Exits 0 only when this very content is in the archive, on stable storage, and with\n" +
			"2 to 16 otherwise: PostgreSQL keeps the file and asks again.",
		Flags: append(common(), dataFlag(),
			&cli.BoolFlag{Name: "no-clone-guard", Usage: "take a history file although it looks like that of a restored copy"}),
		Action: func(x *cli.Context) error {
			fault.At("push.begin")
			arg, err := arguments(x, "PATH", "NAME")
			if err != nil {
				return err
			}
			p, done, err := pusher(x, v)
			if err != nil {
				return err
			}
			defer done()
			p.CloneGuard = !x.Bool("no-clone-guard")
			data, err := dataDir(x.String("D"), arg[0])
			if err != nil {
				return err
			}
			return p.Push(x.Context, data, arg[0], arg[1])
		},
	}
}

func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "D", Aliases: []string{"pgdata"}, Usage: "data directory, instead of the working directory or $PGDATA"}
}

// pusher opens the archive for writing; done closes it.
func pusher(x *cli.Context, v *voice) (p *archive.Pusher, done func(), err error) {
	conf, err := load(x)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := limited(x.Context, conf)
	s, err := open(ctx, conf, silencePatient)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	x.Context = ctx
	return &archive.Pusher{
		Store:       s,
		Codec:       codecOf(conf),
		HeaderCheck: conf.HeaderCheck,
		Warn:        v.warn,
	}, func() { cancel(); s.Close() }, nil
}

func codecOf(c *config.Config) stored.Codec { return stored.Codec(c.Codec) }
