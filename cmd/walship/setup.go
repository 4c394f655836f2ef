package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"walship/internal/config"
	"walship/internal/pgconf"
	"walship/transport"
)

// setupCommand is what holds the setup commands together: alone it only tells
// which there are.
func (p *program) setupCommand() *cli.Command {
	return &cli.Command{
		Name:      "setup",
		Usage:     "set up an archive host, a primary, a standby: see its commands",
		ArgsUsage: "COMMAND",
		Description: "walship setup ssh        key, host key, login, and what the server can promise\n" +
			"walship setup primary    let a server archive, and be followed\n" +
			"walship setup standby    make a server that follows\n" +
			"walship setup undo       put back what setup has changed in files\n\n" +
			"Run them as the user that PostgreSQL runs as. --dry-run shows every change\n" +
			"and makes none; a second run changes nothing.",
		Action: func(*cli.Context) error {
			return usage("setup what? walship setup ssh, walship setup primary, walship setup standby or walship setup undo")
		},
	}
}

// setup is one run of a setup command.
type setup struct {
	*program
	x       *cli.Context
	conf    *config.Config
	file    string // walship's own configuration, absolute; it need not exist yet
	dry     bool
	journal *pgconf.Journal
	changed int // files and statements so far
}

// setupFlags are those of all setup commands.
func setupFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "dry-run", Usage: "show every change to a file and every statement, and make none"},
		&cli.BoolFlag{Name: "force", Usage: "replace values that are there, which setup otherwise leaves alone"},
	}
}

// realDir is the path of a folder without symbolic links, under which what was
// changed in it is remembered.
func realDir(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func setupDataFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "D", Aliases: []string{"pgdata"}, Usage: usage}
}

// newSetup loads the configuration. A file that --config names need not exist:
// setup makes it.
func (p *program) newSetup(x *cli.Context) (*setup, error) {
	s := &setup{program: p, x: x, dry: x.Bool("dry-run")}
	if err := rootRefused(os.Geteuid(), os.Args, s.namedData()); err != nil {
		return nil, err
	}
	named := x.String("config")
	if named == "" {
		named = os.Getenv("WALSHIP_CONFIG")
	}
	flags := make(map[string]string)
	for _, set := range config.Settings() {
		if x.IsSet(set.Flag()) {
			flags[set.Flag()] = x.String(set.Flag())
		}
	}
	if x.Bool("append-only") { // of setup ssh, where it is a switch
		flags["append-only"] = "on"
	}
	if named != "" {
		if _, err := os.Stat(named); errors.Is(err, fs.ErrNotExist) {
			s.file, flags["config"] = named, os.DevNull
		}
	}
	var err error
	if s.conf, err = config.Load(config.Sources{Flags: flags, CheckArchive: checkArchive}); err != nil {
		return nil, err
	}
	if x.Bool("agent-service") && folderAmongSeveral(s.conf) {
		return nil, errFolderAmongSeveral
	}
	if s.file == "" {
		s.file = s.conf.File
	}
	if s.file == "" || s.file == os.DevNull {
		s.file = defaultConfigFile()
	}
	if s.file, err = filepath.Abs(s.file); err != nil {
		return nil, err
	}
	s.journal, err = pgconf.OpenJournal(s.own("setup.json"))
	return s, err
}

// own is a file of walship's own beside its configuration.
func (s *setup) own(name string) string { return filepath.Join(filepath.Dir(s.file), name) }

// defaultConfigFile is where a configuration is made: in /etc/walship if this
// user may write there, else in the user's own folder.
func defaultConfigFile() string {
	const system = "/etc/walship"
	if unix.Access(system, unix.W_OK) == nil {
		return filepath.Join(system, "walship.toml")
	}
	return filepath.Join(home(), ".config", "walship", "walship.toml")
}

// write carries an edit out, or shows it.
func (s *setup) write(e pgconf.Edit) error {
	if !e.Changes() {
		return nil
	}
	s.changed++
	if s.dry {
		s.showDiff(e)
		return nil
	}
	return localError(s.journal.Write(e))
}

// showDiff prints what an edit would change.
func (s *setup) showDiff(e pgconf.Edit) {
	color := pgconf.Color{}
	if isTerminal(s.out) && os.Getenv("NO_COLOR") == "" {
		color = pgconf.ANSI
	}
	s.print("%s", strings.TrimRight(e.Diff(color), "\n"))
}

// errLocalFile is a file of this machine that cannot be read or written.
var errLocalFile = errors.New("cannot change a file here")

// localError gives an error of a file on this machine its class.
func localError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errLocalFile, err)
}

// remember writes settings into walship's own configuration. One that is there
// with another value is replaced only if the user agrees.
func (s *setup) remember(values ...[2]string) error {
	e, err := pgconf.Open(s.file, 0o644)
	if err != nil {
		return localError(err)
	}
	there, err := config.Load(config.Sources{
		Flags:     map[string]string{"config": s.onDisk(e)},
		LookupEnv: func(string) (string, bool) { return "", false },
	})
	if err != nil {
		return err
	}
	have := make(map[string]config.Value)
	for _, v := range there.Values() {
		have[v.Name] = v
	}
	for _, v := range values {
		name, value := v[0], v[1]
		if list, ok := have["archives"]; ok && name == "archive" {
			if slices.ContainsFunc(there.Archives, func(url string) bool {
				u, err := transport.ParseURL(url)
				return err == nil && u.String() == value
			}) {
				continue
			}
			return transport.WithHint(fmt.Errorf("%w: %s lists several archives, %s", config.ErrConfig, list.Origin, list.Text),
				"edit the list itself, and leave --archive out")
		}
		old := have[name]
		if old.Text == value && (old.Origin != "default" || old.Text != "") {
			continue
		}
		if old.Origin != "default" {
			if err := s.agree(fmt.Sprintf("%s has %s = %q; replace it with %q?", old.Origin, name, old.Text, value), "--force"); err != nil {
				return err
			}
		}
		e.New = pgconf.SetTOML(e.New, name, value)
	}
	if !e.Changes() {
		return nil
	}
	if !s.dry {
		s.line("configuration", "%s", e.Path)
	}
	return s.write(e)
}

// onDisk names the file of an edit for reading it.
func (s *setup) onDisk(e pgconf.Edit) string {
	if e.Old == nil {
		return os.DevNull
	}
	return e.Path
}

// agree returns nil if the user agrees: with --force, or asked on a terminal.
// Otherwise the error says what there is, and which flag agrees.
func (s *setup) agree(question, flag string) error {
	if s.x.Bool(strings.TrimLeft(flag, "-")) {
		return nil
	}
	if s.dry {
		s.line("would ask", "%s", question)
		return nil
	}
	yes, asked := s.ask(question)
	if yes {
		return nil
	}
	err := fmt.Errorf("%w: %s", errNotAgreed, strings.TrimSuffix(question, "?"))
	if asked {
		return err
	}
	return transport.WithHint(err, "there is no terminal to ask on: "+flag+" says yes")
}

// errNotAgreed is a question that was not answered with yes.
var errNotAgreed = errors.New("not agreed")

// ask asks for a yes. asked is false if there is no terminal to ask on.
func (s *setup) ask(question string) (yes, asked bool) {
	if !isTTY(os.Stdin) || !isTerminal(s.err) {
		return false, false
	}
	fmt.Fprintf(s.err, "walship: %s (yes/no) ", oneLine(question))
	answer, _ := bufio.NewReader(os.Stdin).ReadString('\n') // without an answer it is no
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "yes" || answer == "y", true
}

// setupWidth is what the lines of a result are wrapped at; topicWidth is the
// column at which their text begins.
const (
	setupWidth = 79
	topicWidth = 17
)

// line prints a line of the result: what it is about, and what there is to say,
// wrapped. Words are never cut.
func (s *setup) line(topic, format string, args ...any) {
	line := fmt.Sprintf("%-*s", topicWidth, topic)
	empty := true
	for _, word := range strings.Fields(oneLine(fmt.Sprintf(format, args...))) {
		if !empty && len([]rune(line))+1+len([]rune(word)) > setupWidth {
			s.print("%s", strings.TrimRight(line, " "))
			line, empty = strings.Repeat(" ", topicWidth), true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	s.print("%s", strings.TrimRight(line, " "))
}

// finish says whether anything was changed.
func (s *setup) finish() {
	switch {
	case s.changed == 0:
		s.line("unchanged", "everything is as it should be")
	case s.dry:
		s.line("dry run", "nothing was changed")
	}
}
