package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make the archive of a cluster",
		Description: "Run it once, in the data directory or with -D, before archiving begins, as the\n" +
			"user that PostgreSQL runs as. An archive that exists already is left as it is.\n" +
			"If the configuration lists several, it makes all of them.",
		Flags: append(common(), dataFlag()),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			conf, err := load(x)
			if err != nil {
				return err
			}
			data, err := dataDir(x.String("D"), "")
			if err != nil {
				return err
			}
			if data == nil {
				return errNoDataDir()
			}
			ctx, cancel := p.limited(x.Context, conf)
			defer cancel()
			all, done, err := openEach(ctx, conf, silencePatient)
			if err != nil {
				return err
			}
			defer done()
			return p.initEach(ctx, all, data)
		},
	}
}

// initEach makes all archives, each of them whatever becomes of the others. The
// error is that of the first that could not be made.
func (p *program) initEach(ctx context.Context, all []named, data *pgdata.Dir) (first error) {
	for _, a := range all {
		at := ""
		if len(all) > 1 {
			at = a.name + ": "
		}
		id, existed, err := archive.Init(ctx, a, data, stored.Codec(a.conf.Codec))
		switch {
		case err != nil && first == nil:
			first = fmt.Errorf("%s%w", at, err)
		case err != nil:
			p.say("init: %s%v", at, err)
			p.hint(advice(err))
		default:
			what := "made"
			if existed {
				what = "exists already:"
			}
			p.print("%s%s the archive of cluster %d, segments of %d MB, stored as %s", at, what, id.SystemID, id.SegmentSize>>20, id.Codec)
		}
	}
	return first
}

func errNoDataDir() error {
	return transport.WithHint(fmt.Errorf("the working directory is %w", pgdata.ErrNotDataDir), "run walship in the data directory, or name it with -D or PGDATA")
}
