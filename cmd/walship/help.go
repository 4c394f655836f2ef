package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"walship/internal/config"
)

// helpWidth is what help is wrapped at.
const helpWidth = 79

// appHelp is what walship --help prints. The library takes it for a template.
func appHelp(list []*cli.Command) string {
	var b strings.Builder
	b.WriteString(`walship ships PostgreSQL's write-ahead log to an archive and gets it back.

  archive_command = 'walship push %p %f'
  restore_command = 'walship fetch %f %p'

Commands:
`)
	for _, c := range list {
		if strings.Contains(c.Name, " ") { // setup ssh and its like: setup tells
			continue
		}
		fmt.Fprintf(&b, "  %-10s  %s\n", c.Name, c.Usage)
	}
	b.WriteString(`
To begin, put one line into /etc/walship/walship.toml, such as
  archive = "sftp://wal@backup.example.com/srv/wal"
then run "walship init" in the data directory, as the user of the server, set
archive_mode = on and the archive_command above, and restart the server.

"walship setup" does this and more, on the primary and on a standby.

"walship COMMAND --help" tells the options of a command, docs/exit-codes.md the
exit codes, "walship config" the settings in force.
`)
	return b.String()
}

// commandHelp is what walship COMMAND --help prints.
func commandHelp(c *cli.Command) string {
	var b strings.Builder
	usage := "Usage: walship " + c.Name
	if len(c.Flags) > 0 {
		usage += " [OPTIONS]"
	}
	b.WriteString(strings.TrimRight(usage+" "+c.ArgsUsage, " ") + "\n\n")
	b.WriteString(strings.ToUpper(c.Usage[:1]) + c.Usage[1:] + ".\n")
	if c.Description != "" {
		b.WriteString("\n" + c.Description + "\n")
	}
	shared := make(map[string]config.Setting)
	for _, s := range config.Settings() {
		shared[s.Flag()] = s
	}
	var own, settings strings.Builder
	for _, f := range c.Flags {
		name := f.Names()[0]
		_, ownSwitch := f.(*cli.BoolFlag) // settings take values
		if s, ok := shared[name]; ok && !ownSwitch {
			text := s.Usage
			if s.Default != "" {
				text += "; default " + s.Default
			}
			if len(s.Words) > 0 {
				name += " " + strings.Join(s.Words, "|")
			} else {
				name += " VALUE"
			}
			option(&settings, "--"+name, text)
			continue
		}
		switch f := f.(type) {
		case *cli.BoolFlag:
			option(&own, flagNames(f), f.Usage)
		case *cli.StringSliceFlag:
			option(&own, flagNames(f)+" VALUE", f.Usage)
		case *cli.StringFlag:
			option(&own, flagNames(f)+" VALUE", f.Usage)
		}
	}
	if own.Len() > 0 {
		b.WriteString("\nOptions:\n" + own.String())
	}
	if settings.Len() > 0 {
		b.WriteString("\nSettings, each also a variable (WALSHIP_ARCHIVE), and all but --config a line\nof walship.toml:\n" + settings.String())
	}
	return b.String()
}

// flagNames lists a flag's names, the short one first.
func flagNames(f cli.Flag) string {
	var short, long []string
	for _, name := range f.Names() {
		if len(name) == 1 {
			short = append(short, "-"+name)
		} else {
			long = append(long, "--"+name)
		}
	}
	return strings.Join(append(short, long...), ", ")
}

// option writes one option, its text indented below it.
func option(b *strings.Builder, name, text string) {
	b.WriteString("  " + name + "\n")
	line := "     "
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > helpWidth {
			b.WriteString(line + "\n")
			line = "     "
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
