package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"walship/internal/config"
)

// newApp builds the command line. The library's own ways out, printing a usage
// page for an error and ending the process with a code of its choice, are shut.
func newApp(v *voice, c caller) *cli.App {
	app := &cli.App{
		Name:  "walship",
		Usage: "ship PostgreSQL's write-ahead log to an archive over SFTP, and get it back",
		UsageText: "archive_command = 'walship push %p %f'\n" +
			"restore_command = 'walship fetch %f %p'",
		Description: "Settings are flags, WALSHIP_... variables or lines of walship.toml, in this order.\n" +
			"See \"walship COMMAND --help\", and \"walship config\" for what is in force.",
		HideVersion:     true,
		Commands:        commands(v, c),
		CommandNotFound: nil,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    usageError,
		Action: func(x *cli.Context) error {
			if name := x.Args().First(); name != "" {
				return usage("unknown command %q; the commands are %s", name, strings.Join(commandNames(), ", "))
			}
			return usage("a command is missing; the commands are %s", strings.Join(commandNames(), ", "))
		},
	}
	if v != nil {
		app.Writer, app.ErrWriter = v.out, v.err
	}
	return app
}

func usageError(_ *cli.Context, err error, _ bool) error { return usage("%v", err) }

func usage(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUsage}, args...)...)
}

// commands lists the subcommands; v and c may be empty where only their names
// and flags matter.
func commands(v *voice, c caller) []*cli.Command {
	list := []*cli.Command{
		pushCommand(v, c),
		fetchCommand(v, c),
		initCommand(v),
		setAsideCommand(v),
		configCommand(v),
		versionCommand(v),
	}
	for _, command := range list {
		command.OnUsageError = usageError
		command.HideHelpCommand = true
	}
	return list
}

func commandNames() []string {
	return []string{"push", "fetch", "init", "set-aside", "config", "version"}
}

// common are the flags that every command takes.
func common() []cli.Flag {
	var flags []cli.Flag
	for _, s := range config.Settings() {
		text := s.Usage
		if len(s.Words) > 0 {
			text += " (" + strings.Join(s.Words, ", ") + ")"
		}
		if s.Default != "" {
			text += "; default " + s.Default
		}
		flags = append(flags, &cli.StringFlag{Name: s.Flag(), Usage: text + " [$" + s.Env() + "]"})
	}
	return flags
}

// load reads the configuration; the flags of the command line come first.
func load(x *cli.Context) (*config.Config, error) {
	given := make(map[string]string)
	for _, s := range config.Settings() {
		if x.IsSet(s.Flag()) {
			given[s.Flag()] = x.String(s.Flag())
		}
	}
	return config.Load(config.Sources{Flags: given, CheckArchive: checkArchive})
}

// arguments returns exactly the named arguments.
func arguments(x *cli.Context, names ...string) ([]string, error) {
	if x.NArg() != len(names) {
		want := x.Command.Name
		for _, n := range names {
			want += " " + n
		}
		if x.NArg() > len(names) {
			return nil, usage("%d arguments instead of %d: walship %s", x.NArg(), len(names), want)
		}
		return nil, usage("%s is missing: walship %s", names[x.NArg()], want)
	}
	return x.Args().Slice(), nil
}

// limited bounds a whole call.
func limited(ctx context.Context, c *config.Config) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("%w (timeout = %s)", errLimit, config.FormatDuration(c.Timeout)))
}
