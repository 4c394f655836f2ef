// Command walship ships PostgreSQL's write-ahead log to an archive and gets it
// back. PostgreSQL calls push and fetch and reads their exit codes, which are
// therefore an interface: see exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"walship/internal/pgdata"
)

// version is set by the build.
var version = "devel"

func main() {
	// A broken pipe on the server's log must not end a call by a signal.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}

// run carries out one command line and returns the exit code. Before anything
// else it learns from the working directory what its failures would mean to a
// server that is waiting for the code.
func run(args []string, stdout, stderr *os.File) int {
	dieLoudly()
	v := &voice{out: stdout, err: stderr}
	line := readLine(args)
	caller := whoAsks(line)
	if !caller.mayNotLie() {
		dieQuietly()
	}
	ctx, stop := catchSignals(context.Background(), caller)
	defer stop()

	var err error
	switch p := (&program{v, caller}); {
	case line.plain != nil:
		err = p.carryOut(ctx, line.plain)
	case line.twice: // the last one alone would count
		err = usage("--archive is given more than once; several archives stand in the configuration file: archives = [\"URL\", \"URL\"]")
	default:
		err = newApp(p).RunContext(ctx, line.args)
	}
	code := caller.code(err)
	if s := signalOf(ctx); s != nil && err != nil {
		if code = caller.signalCode(s); code != exitTerminated {
			v.fail(caller, code, signalError{s})
		}
		return code
	}
	v.fail(caller, code, err)
	return code
}

// program is what every command works with.
type program struct {
	*voice
	caller
}

// caller is what is known of who waits for the exit code.
type caller struct {
	command string      // the subcommand, "" if there is none or it is unknown
	mode    pgdata.Mode // of the working directory, or as --mode says
	help    bool        // help was asked for, and goes to no terminal

	helpAsked bool // wherever it goes
}

func whoAsks(line commandLine) caller {
	c := caller{mode: pgdata.DetectMode("."), help: line.help && !isTerminal(os.Stdout), helpAsked: line.help}
	if line.plain != nil || slices.Contains(commandNames(), line.command) {
		c.command = line.command
	}
	if mode, ok := parseMode(line.mode); ok {
		c.mode = mode
	}
	return c
}

// recovering reports whether a server that recovers may be waiting.
func (c caller) recovering() bool {
	return c.mode == pgdata.Standby || c.mode == pgdata.ArchiveRecovery
}

// mayNotLie reports whether a crash must not look like an answer: Go's own
// exit code for it is 2, which archive recovery takes for the end of WAL.
func (c caller) mayNotLie() bool {
	switch {
	case c.command == "push":
		return false // any code from 1 to 125 is right, and a signal is not
	case c.mode == pgdata.ArchiveRecovery:
		return true
	}
	return c.command == "fetch" && c.mode == pgdata.ByHand
}

func parseMode(name string) (pgdata.Mode, bool) {
	for _, m := range []pgdata.Mode{pgdata.Standby, pgdata.ArchiveRecovery, pgdata.Ending, pgdata.ByHand} {
		if name == modeName(m) {
			return m, true
		}
	}
	return pgdata.ByHand, false
}

// modeName is the mode's name on the command line.
func modeName(m pgdata.Mode) string {
	switch m {
	case pgdata.Standby:
		return "standby"
	case pgdata.ArchiveRecovery:
		return "archive-recovery"
	case pgdata.Ending:
		return "ending"
	}
	return "by-hand"
}
