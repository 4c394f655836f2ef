package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/fault"
	"walship/internal/stored"
)

func (p *program) pushCommand() *cli.Command {
	return &cli.Command{
		Name:      "push",
		Usage:     "put a WAL file into the archive (for archive_command)",
		ArgsUsage: "PATH NAME",
		Description: "archive_command = 'walship push %p %f'\n\n" +
			"Exits 0 only when this very content is in the archive, on stable storage.\n" +
			"Otherwise PostgreSQL keeps the file and asks again; the exit code says why:\n\n" +
			"   2 command line            3 configuration         4 name or content refused\n" +
			"   5 other content archived  6 restored copy         7 archive not usable\n" +
			"   8 unreachable             9 login, host key      10 permission\n" +
			"  11 disk full              12 not durable enough   13 file here unreadable\n" +
			"  14 stored file damaged    15 ended by a signal    16 anything else",
		Flags: append(common(), dataFlag(),
			&cli.BoolFlag{Name: "no-clone-guard", Usage: "take a history file although it looks like that of a restored copy"}),
		Action: func(x *cli.Context) error {
			fault.At("push.begin")
			arg, err := arguments(x, "PATH", "NAME")
			if err != nil {
				return err
			}
			data, err := dataDir(x.String("D"), arg[0])
			if err != nil {
				return err
			}
			silence := silencePatient
			if data != nil && data.Stopping() {
				silence = silenceStopping
			}
			conf, err := load(x)
			if err != nil {
				return err
			}
			ctx, cancel := p.limited(x.Context, conf)
			defer cancel()
			if !x.Bool("no-clone-guard") {
				if done, err := p.pushViaAgent(ctx, conf, data, silence, arg[0], arg[1]); done {
					return err
				}
			}
			pusher, done, err := p.pusherTo(ctx, conf, silence)
			if err != nil {
				return err
			}
			defer done()
			pusher.CloneGuard = !x.Bool("no-clone-guard")
			return pusher.Push(ctx, data, arg[0], arg[1])
		},
	}
}

func dataFlag() cli.Flag {
	return &cli.StringFlag{Name: "D", Aliases: []string{"pgdata"}, Usage: "data directory, instead of the working directory or $PGDATA"}
}

// pusher loads the configuration and opens the archive for writing; done closes it.
func (p *program) pusher(x *cli.Context, silence time.Duration) (pusher *archive.Pusher, done func(), err error) {
	conf, err := load(x)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := p.limited(x.Context, conf)
	pusher, closed, err := p.pusherTo(ctx, conf, silence)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	x.Context = ctx
	return pusher, func() { cancel(); closed() }, nil
}

// pusherTo opens the configured archive for writing; done closes it.
func (p *program) pusherTo(ctx context.Context, conf *config.Config, silence time.Duration) (pusher *archive.Pusher, done func(), err error) {
	s, err := open(ctx, conf, silence)
	if err != nil {
		return nil, nil, err
	}
	return &archive.Pusher{
		Store:       s,
		Codec:       stored.Codec(conf.Codec),
		HeaderCheck: conf.HeaderCheck,
		Warn:        p.warn,
	}, func() { _ = s.Close() }, nil
}
