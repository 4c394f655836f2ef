package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// A plain call is read as the flag parser would read it, and what is no plain
// call is left to it.
func TestPlainly(t *testing.T) {
	for line, plain := range map[string]bool{
		"push P N":                            true,
		"fetch N P":                           true,
		"push pg_wal/0001 0001":               true,
		"--config C push P N":                 true,
		"push --config C P N":                 true,
		"push P --config=C N":                 true,
		"-config C push P N":                  false,
		"push P N --config C --silence 3s":    true,
		"push P N --config C --config D":      false,
		"push P N --archive A --archive B":    false,
		"push P N --config":                   false,
		"push P N --config --silence":         false,
		"push P":                              false,
		"push P N M":                          false,
		"push P N -D X":                       false,
		"push P N --no-clone-guard":           false,
		"fetch N P --mode standby":            false,
		"push P N --help":                     false,
		"push -- P N":                         false,
		"push - N":                            false,
		"push P N ---config C":                false,
		"init P N":                            false,
		"help push P":                         false,
		"push fetch push":                     true,
		"":                                    false,
		"--agent auto push --timeout=1s P N ": true,
	} {
		if got := comparePlain(t, append([]string{"walship"}, strings.Fields(line)...)); got != plain {
			t.Errorf("%q: plain is %v", line, got)
		}
	}
	comparePlain(t, []string{"walship", "push", "", "N"})
	comparePlain(t, []string{"walship", "push", "a b", "\x00", "--config="})
}

// comparePlain has both read the line and reports whether it is a plain call.
func comparePlain(t *testing.T, args []string) bool {
	t.Helper()
	call, ok := plainly(args)
	if !ok {
		return false
	}
	command, words, settings := parsed(t, args)
	if command != call.command || !slices.Equal(words, call.args) || !maps.Equal(settings, call.given) {
		t.Errorf("%q: %+v, for the parser %s %q with %v", args, *call, command, words, settings)
	}
	return true
}

// parsed is what the flag parser understands.
func parsed(t *testing.T, args []string) (command string, words []string, settings map[string]string) {
	t.Helper()
	line := arrange(args)
	if line.help || line.twice || line.mode != "" {
		t.Errorf("%q: %+v", args, line)
	}
	app := newApp(&program{voice: &voice{out: os.Stdout, err: os.Stderr}})
	for _, c := range app.Commands {
		c.Action = func(x *cli.Context) error {
			command, words, settings = c.Name, x.Args().Slice(), given(x)
			for _, f := range c.Flags {
				if name := f.Names()[0]; x.IsSet(name) && settings[name] != x.String(name) {
					t.Errorf("%q: the flag %s is set", args, name)
				}
			}
			return nil
		}
	}
	if err := app.RunContext(context.Background(), line.args); err != nil {
		t.Errorf("%q: %v", args, err)
	}
	return command, words, settings
}
