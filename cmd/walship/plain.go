package main

import (
	"context"
	"slices"
	"strings"

	"walship/internal/config"
)

// plainCall is a push or a fetch as archive_command and restore_command have it:
// the command, its two arguments, and settings.
type plainCall struct {
	command string
	args    []string
	given   map[string]string // settings
}

// plainly reads a command line that is nothing but a plain call. Every other one
// is the flag parser's, which means the same by a plain one; but to build the
// flags and texts of all commands costs a call as much again as to hand its work
// to the agent, and a server makes one for each segment.
func plainly(args []string) (*plainCall, bool) {
	call := &plainCall{given: make(map[string]string)}
	var settings []config.Setting
	var words []string
	for rest := args[1:]; len(rest) > 0; {
		arg := rest[0]
		rest = rest[1:]
		if arg == "" {
			return nil, false
		}
		if arg[0] != '-' {
			words = append(words, arg)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !hasValue {
			if len(rest) == 0 {
				return nil, false
			}
			value, rest = rest[0], rest[1:]
		}
		if settings == nil {
			settings = config.Settings()
		}
		known := slices.ContainsFunc(settings, func(s config.Setting) bool { return s.Flag() == name })
		if _, twice := call.given[name]; twice || !known || strings.HasPrefix(value, "-") {
			return nil, false
		}
		call.given[name] = value
	}
	if len(words) != 3 || words[0] != "push" && words[0] != "fetch" {
		return nil, false
	}
	call.command, call.args = words[0], words[1:]
	return call, true
}

func (p *program) carryOut(ctx context.Context, call *plainCall) error {
	if call.command == "push" {
		return p.push(ctx, pushCall{given: call.given, args: call.args})
	}
	return p.fetch(ctx, fetchCall{given: call.given, args: call.args})
}
