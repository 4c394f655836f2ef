package main

import (
	"runtime"

	"github.com/urfave/cli/v2"

	"walship/internal/layout"
)

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(x *cli.Context) error {
			if _, err := arguments(x); err != nil {
				return err
			}
			p.print("walship %s, archive format %d, %s %s/%s", version, layout.FormatVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}
