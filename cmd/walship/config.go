package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

func (p *program) configCommand() *cli.Command {
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
				e := json.NewEncoder(plainJSON{p.out})
				e.SetIndent("", "  ")
				return e.Encode(values)
			}
			w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
			for _, s := range conf.Values() {
				text := s.Text
				if text == "" {
					text = "-"
				}
				if s.Name == "recipients" && len(conf.Recipients) > 0 {
					text = shortRecipients(conf.Recipients)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, text, s.Origin)
			}
			return errors.Join(w.Flush(), conf.RequireArchive())
		},
	}
}
