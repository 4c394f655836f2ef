package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// commandLine is a command line put in the order that the flag parser reads:
// command, flags, arguments. The parser itself takes no flags in front of the
// command that belong to it, and passes over those behind the first argument.
type commandLine struct {
	args    []string // for the parser
	command string
	mode    string // the value of --mode
	help    bool
	twice   bool // --archive stands there more than once

	plain *plainCall // what it says, if it needs no parser
}

// readLine reads the command line, without the commands' flags if it can.
func readLine(args []string) commandLine {
	if call, ok := plainly(args); ok {
		return commandLine{command: call.command, plain: call}
	}
	return arrange(args)
}

// arrange reads the line once for each command that it may be about, with that
// command's own flags: a flag may take a value in one command and none in
// another. The first reading that leads to its own command counts, else the one
// with the flags of all commands together.
func arrange(args []string) commandLine {
	commands := commandTable()
	all := make(map[string]bool)
	names := make(map[string]bool)
	for _, command := range commands {
		names[command.Name] = true
		for name, takes := range valueFlags(command) {
			all[name] = all[name] || takes
		}
	}
	for _, command := range commands {
		own := maps.Clone(all)
		maps.Copy(own, valueFlags(command))
		if line := arrangeWith(args, own, names); line.command == command.Name {
			return line
		}
	}
	return arrangeWith(args, all, names)
}

// valueFlags tells of each flag of a command whether it takes a value.
func valueFlags(command *cli.Command) map[string]bool {
	takes := make(map[string]bool)
	for _, f := range command.Flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, name := range f.Names() {
			takes[name] = !isBool
		}
	}
	return takes
}

// arrangeWith reads the line with these flags. Two words that are a command's
// name together, such as setup ssh, become one.
func arrangeWith(args []string, takesValue, commands map[string]bool) commandLine {
	var line commandLine
	var flags, words []string
	unknown := false
	archives := 0
	rest := args[1:]
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" {
			words = append(words, rest...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		flags = append(flags, arg)
		if _, known := takesValue[name]; !known {
			unknown = true
		}
		if !hasValue && takesValue[name] && len(rest) > 0 {
			value, rest = rest[0], rest[1:]
			flags = append(flags, value)
		}
		switch name {
		case "archive":
			archives++
		case "mode":
			line.mode = value
		case "h", "help":
			line.help = true
		}
	}
	if len(words) == 0 && !line.help && !unknown {
		flags = nil // what is missing is the command
	}
	for at := range min(2, max(0, len(words)-1)) { // help setup ssh, too
		if two := words[at] + " " + words[at+1]; commands[two] && (at == 0 || words[0] == "help") {
			words = slices.Replace(slices.Clone(words), at, at+2, two)
			break
		}
	}
	line.twice = archives > 1
	line.args = args[:1:1]
	if len(words) > 0 {
		line.command = words[0]
		line.args = append(line.args, words[0])
		words = words[1:]
	}
	line.help = line.help || line.command == "help"
	line.args = append(line.args, flags...)
	if len(words) > 0 && (!line.help || line.command == "help") { // help is about the command alone
		line.args = append(append(line.args, "--"), words...)
	}
	return line
}
