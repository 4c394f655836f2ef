package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"walship/internal/config"
	"walship/internal/fault"
	"walship/internal/pgdata"
	"walship/restore"
	"walship/transport"
)

func (p *program) fetchCommand() *cli.Command {
	return &cli.Command{
		Name:      "fetch",
		Usage:     "get a WAL file from the archive (for restore_command)",
		ArgsUsage: "NAME PATH",
		Description: "restore_command = 'walship fetch %f %p'\n\n" +
			"Exits 0 when the file is delivered, checked and whole, and 1 when a healthy\n" +
			"archive does not have it. In doubt, as when the archive cannot be reached, it\n" +
			"exits 126 in archive recovery, so that the server stops and loses nothing, and\n" +
			"1 on a standby and at the end of a promotion, with a warning. The working\n" +
			"directory, which is the data directory for PostgreSQL, tells which it is.",
		Flags: append(common(), dataFlag(),
			&cli.StringFlag{Name: "mode", Usage: "who asks, instead of what the working directory tells (standby, archive-recovery, ending, by-hand)"},
			&cli.BoolFlag{Name: "no-fork-guard", Usage: "deliver a segment although a newer timeline has left its own before the segment's end"},
			&cli.BoolFlag{Name: "no-gap-guard", Usage: "in archive recovery let a hole in the archive be the end of WAL"}),
		Action: func(x *cli.Context) error {
			if name := x.String("mode"); x.IsSet("mode") {
				if _, ok := parseMode(name); !ok {
					return usage("unknown mode %q (standby, archive-recovery, ending, by-hand)", name)
				}
			}
			return p.fetch(x.Context, fetchCall{given(x), x.Args().Slice(), x.String("D"), x.Bool("no-fork-guard"), x.Bool("no-gap-guard")})
		},
	}
}

// fetchCall is what stands on the command line of a fetch, but for the mode.
type fetchCall struct {
	given                   map[string]string // settings
	args                    []string
	data                    string
	noForkGuard, noGapGuard bool
}

func (p *program) fetch(ctx context.Context, call fetchCall) error {
	fault.At("fetch.begin")
	arg, err := exactly(call.args, "fetch", "NAME", "PATH")
	if err != nil {
		return err
	}
	conf, err := loadGiven(call.given)
	if err != nil {
		return err
	}
	data, err := dataDir(call.data, arg[1])
	if err != nil {
		return err
	}
	ctx, cancel := p.limited(ctx, conf)
	defer cancel()
	f := &restore.Fetcher{
		ForkGuard:   !call.noForkGuard,
		GapGuard:    !call.noGapGuard,
		Keys:        keys(conf),
		HeaderCheck: conf.HeaderCheck,
		Patience:    conf.Silence,
		Warn:        p.warn,
	}
	r := restore.Request{Name: arg[0], Path: arg[1], Data: data, Mode: p.mode}
	if f.ForkGuard && f.GapGuard {
		if done, err := p.fetchViaAgent(ctx, conf, r); done {
			return err
		}
	}
	return fetch(ctx, f, conf, r)
}

// fetch asks, and asks again where a lost connection would stop a recovery. A
// standby asks again by itself, and a promotion must not wait.
func fetch(ctx context.Context, f *restore.Fetcher, conf *config.Config, r restore.Request) error {
	pauses := []time.Duration{time.Second, 3 * time.Second}
	if r.Mode == pgdata.Standby || r.Mode == pgdata.Ending {
		pauses = nil
	}
	for try := 0; ; try++ {
		err := fetchOnce(ctx, f, conf, r)
		if try == len(pauses) || !errors.Is(err, transport.ErrUnreachable) {
			return err
		}
		select {
		case <-time.After(pauses[try]):
		case <-ctx.Done():
			return err
		}
	}
}

func fetchOnce(ctx context.Context, f *restore.Fetcher, conf *config.Config, r restore.Request) error {
	all, done, err := openEach(ctx, conf, silenceFor(r.Mode))
	if err != nil {
		return err
	}
	defer done()
	return fetchersOf(f, all).Fetch(ctx, r)
}
