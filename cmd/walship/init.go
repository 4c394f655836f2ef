package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/pgdata"
	"walship/transport"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make the archive of a cluster",
		Description: "Run it once, in the data directory or with -D, before archiving begins, as the\n" +
			"user that PostgreSQL runs as. An archive that exists already is left as it is.",
		Flags: append(common(), dataFlag()),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			pusher, done, err := p.pusher(x, silencePatient)
			if err != nil {
				return err
			}
			defer done()
			data, err := dataDir(x.String("D"), "")
			if err != nil {
				return err
			}
			if data == nil {
				return errNoDataDir()
			}
			id, existed, err := archive.Init(x.Context, pusher.Store, data, pusher.Codec)
			if err != nil {
				return err
			}
			what := "made"
			if existed {
				what = "exists already:"
			}
			p.print("%s the archive of cluster %d, segments of %d MB, stored as %s", what, id.SystemID, id.SegmentSize>>20, id.Codec)
			return nil
		},
	}
}

func errNoDataDir() error {
	return transport.WithHint(fmt.Errorf("the working directory is %w", pgdata.ErrNotDataDir), "run walship in the data directory, or name it with -D or PGDATA")
}
