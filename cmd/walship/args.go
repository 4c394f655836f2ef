package main

import (
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
}

func arrange(args []string) commandLine {
	takesValue := make(map[string]bool)
	for _, command := range (&program{}).commands() {
		for _, f := range command.Flags {
			_, isBool := f.(*cli.BoolFlag)
			for _, name := range f.Names() {
				takesValue[name] = !isBool
			}
		}
	}
	var line commandLine
	var flags, words []string
	unknown := false
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
		case "mode":
			line.mode = value
		case "h", "help":
			line.help = true
		}
	}
	if len(words) == 0 && !line.help && !unknown {
		flags = nil // what is missing is the command
	}
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
