package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/transport"
)

func initCommand(v *voice) *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make the archive of a cluster",
		Description: "Run it once, in the data directory or with -D, before archiving begins.\n" +
			"An archive that exists already is left as it is.",
		Flags: append(common(), dataFlag()),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			p, done, err := pusher(x, v)
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
			id, existed, err := archive.Init(x.Context, p.Store, data, p.Codec)
			if err != nil {
				return err
			}
			what := "made"
			if existed {
				what = "exists already:"
			}
			v.print("%s the archive of cluster %d, segments of %d MB, stored as %s", what, id.SystemID, id.SegmentSize>>20, id.Codec)
			return nil
		},
	}
}

func errNoDataDir() error {
	return transport.WithHint(fmt.Errorf("the working directory is %w", pgdata.ErrNotDataDir), "run walship in the data directory, or name it with -D or PGDATA")
}

func setAsideCommand(v *voice) *cli.Command {
	return &cli.Command{
		Name:      "set-aside",
		Usage:     "keep a WAL file that push refuses under refused/, and let it pass",
		ArgsUsage: "NAME",
		Description: "PostgreSQL archives nothing behind a file that is refused. When it is clear that the\n" +
			"file is not needed under its name, this stores it under refused/ in the archive;\n" +
			"exactly this content is then let pass when PostgreSQL pushes it again.",
		Flags: append(common(), dataFlag(),
			&cli.StringFlag{Name: "file", Usage: "the file itself, instead of NAME in the data directory's WAL folder"}),
		Action: func(x *cli.Context) error {
			arg, err := arguments(x, "NAME")
			if err != nil {
				return err
			}
			p, done, err := pusher(x, v)
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
			kept, err := p.SetAside(x.Context, data, path, arg[0])
			if err != nil {
				return err
			}
			v.print("%s is kept as %s; push lets exactly this content pass from now on", arg[0], kept)
			return nil
		},
	}
}

func configCommand(v *voice) *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "show the settings in force, and where each comes from",
		Flags: append(common(), &cli.BoolFlag{Name: "json", Usage: "print JSON"}),
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			conf, err := load(x)
			if err != nil {
				return err
			}
			if x.Bool("json") {
				type value struct {
					Name   string `json:"name"`
					Value  string `json:"value"`
					Origin string `json:"origin"`
				}
				values := []value{}
				for _, s := range conf.Values() {
					values = append(values, value{s.Name, s.Text, s.Origin})
				}
				e := json.NewEncoder(v.out)
				e.SetIndent("", "  ")
				return e.Encode(values)
			}
			w := tabwriter.NewWriter(v.out, 0, 0, 2, ' ', 0)
			for _, s := range conf.Values() {
				text := s.Text
				if text == "" {
					text = "-"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, text, s.Origin)
			}
			return errors.Join(w.Flush(), conf.RequireArchive())
		},
	}
}

func versionCommand(v *voice) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			v.print("walship %s, archive format %d, %s %s/%s", version, layout.FormatVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}
