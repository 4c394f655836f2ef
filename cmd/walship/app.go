package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"walship/internal/config"
	"walship/internal/fault"
)

// newApp builds the command line. The library's own ways out, printing a usage
// page for an error and ending the process with a code of its choice, are shut.
func newApp(p *program) *cli.App {
	list := p.commands()
	return &cli.App{
		Name:        "walship",
		Writer:      p.out,
		ErrWriter:   p.err,
		HideVersion: true,
		// A comma in a path divides nothing.
		DisableSliceFlagSeparator: true,
		Commands:                  list,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageError,

		CustomAppHelpTemplate: appHelp(list),
		Action: func(x *cli.Context) error {
			if name := x.Args().First(); name != "" {
				return usage("unknown command %q; the commands are %s", name, strings.Join(commandNames(), ", "))
			}
			return usage("a command is missing; the commands are %s", strings.Join(commandNames(), ", "))
		},
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return usage("%s", strings.Replace(err.Error(), "not defined: -", "not defined: --", 1))
}

func usage(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUsage}, args...)...)
}

// commands lists the subcommands. Where only their names and flags matter the
// program may be empty.
func (p *program) commands() []*cli.Command {
	list := []*cli.Command{
		p.pushCommand(),
		p.fetchCommand(),
		p.initCommand(),
		p.backupCommand(),
		p.restoreCommand(),
		p.setAsideCommand(),
		p.setupCommand(),
		p.setupSSHCommand(),
		p.setupPrimaryCommand(),
		p.setupStandbyCommand(),
		p.setupUndoCommand(),
		p.listCommand(),
		p.checkCommand(),
		p.verifyCommand(),
		p.pruneCommand(),
		p.syncCommand(),
		p.agentCommand(),
		p.agentStatusCommand(),
		p.agentStopCommand(),
		p.configCommand(),
		p.versionCommand(),
	}
	for _, command := range list {
		command.OnUsageError = usageError
		command.HideHelpCommand = true
		if p.helpAsked { // every push and fetch would pay for it
			command.CustomHelpTemplate = commandHelp(command)
		}
	}
	return list
}

// commandTable is all commands, for their names and flags only.
var commandTable = sync.OnceValue(func() []*cli.Command { return (&program{}).commands() })

func commandNames() []string {
	var names []string
	for _, c := range commandTable() {
		names = append(names, c.Name)
	}
	return names
}

// common are the flags that every command takes.
func common() []cli.Flag { return slices.Clone(settingFlags()) }

// settingFlags are shared by all commands, of which one runs: to make them for
// each would cost every push and fetch.
var settingFlags = sync.OnceValue(func() []cli.Flag {
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
})

// commonBut are the common flags without the named one, which the command has as
// a switch of its own.
func commonBut(name string) []cli.Flag {
	return slices.DeleteFunc(common(), func(f cli.Flag) bool { return f.Names()[0] == name })
}

// load reads the configuration; the flags of the command line come first.
func load(x *cli.Context) (*config.Config, error) { return loadGiven(given(x)) }

// given are the settings on the command line.
func given(x *cli.Context) map[string]string {
	given := make(map[string]string)
	for _, s := range config.Settings() {
		if x.IsSet(s.Flag()) {
			given[s.Flag()] = x.String(s.Flag())
		}
	}
	return given
}

func loadGiven(given map[string]string) (*config.Config, error) {
	return config.Load(config.Sources{Flags: given, CheckArchive: checkArchive})
}

// arguments returns exactly the named arguments.
func arguments(x *cli.Context, names ...string) ([]string, error) {
	return exactly(x.Args().Slice(), x.Command.Name, names...)
}

// exactly returns a command's arguments if they are as many as it has names for.
func exactly(args []string, command string, names ...string) ([]string, error) {
	if len(args) == len(names) {
		return args, nil
	}
	want := command + " " + strings.Join(names, " ")
	if len(args) > len(names) {
		return nil, usage("%d arguments instead of %d: walship %s", len(args), len(names), want)
	}
	return nil, usage("%s is missing: walship %s", names[len(args)], want)
}

// limited bounds a whole call. What does not heed its context, such as a local
// folder on a network file system that hangs, is cut off a moment later.
func (p *program) limited(ctx context.Context, c *config.Config) (context.Context, context.CancelFunc) {
	if fault.Skip("call.limit") {
		return ctx, func() {}
	}
	over := fmt.Errorf("%w (timeout = %s)", errLimit, config.FormatDuration(c.Timeout))
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, over)
	cut := time.AfterFunc(c.Timeout+2*grace, func() {
		code := p.code(over)
		p.fail(p.caller, code, over)
		os.Exit(code)
	})
	return ctx, func() { cut.Stop(); cancel() }
}
