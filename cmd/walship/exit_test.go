package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/restore"
	"walship/transport"
)

// classes are the outcomes of a call and the codes that push and people get.
var classes = []struct {
	err  error
	code int
}{
	{nil, 0},
	{errUsage, 2},
	{config.ErrConfig, 3},
	{transport.ErrConfig, 3},
	{archive.ErrRefused, 4},
	{restore.ErrName, 4},
	{archive.ErrConflict, 5},
	{archive.ErrCloned, 6},
	{archive.ErrArchive, 7},
	{restore.ErrArchive, 7},
	{layout.ErrIdentity, 7},
	{transport.ErrUnreachable, 8},
	{errLimit, 8},
	{context.DeadlineExceeded, 8},
	{transport.ErrLogin, 9},
	{transport.ErrHostKey, 9},
	{fs.ErrPermission, 10},
	{transport.ErrFull, 11},
	{transport.ErrNotDurable, 12},
	{archive.ErrLocal, 13},
	{restore.ErrLocal, 13},
	{pgdata.ErrNotDataDir, 13},
	{stored.ErrDamaged, 14},
	{errors.New("anything"), 16},
	{fs.ErrNotExist, 16},
	{fs.ErrExist, 16},
	{context.Canceled, 16},
	{restore.ErrWithheld, 16},
}

var modes = []pgdata.Mode{pgdata.Standby, pgdata.ArchiveRecovery, pgdata.Ending, pgdata.ByHand}

// Every class of errors, by whoever asks, in every mode: PostgreSQL reads these.
func TestCodes(t *testing.T) {
	doubt := map[pgdata.Mode]int{pgdata.Standby: 1, pgdata.ArchiveRecovery: 126, pgdata.Ending: 1, pgdata.ByHand: 126}
	for _, class := range classes {
		err := class.err
		if err != nil {
			err = transport.WithHint(fmt.Errorf("name: %w: more", err), "a hint")
		}
		for _, mode := range modes {
			recovering := mode == pgdata.Standby || mode == pgdata.ArchiveRecovery
			want := map[string]int{"push": class.code, "fetch": doubt[mode], "init": class.code, "set-aside": class.code, "config": class.code, "version": class.code, "": class.code}
			if err == nil {
				want["fetch"] = 0
			}
			if recovering && errors.Is(err, errUsage) {
				for _, command := range []string{"init", "set-aside", "config", "version", ""} {
					want[command] = doubt[mode]
				}
			}
			for command, code := range want {
				if got := (caller{command: command, mode: mode}).code(err); got != code {
					t.Errorf("%q, %s, %v: %d, want %d", command, mode, err, got, code)
				}
			}
		}
	}
	for _, mode := range modes {
		if got := (caller{command: "fetch", mode: mode}).code(fmt.Errorf("%w: x", restore.ErrNotThere)); got != 1 {
			t.Errorf("not there, %s: %d, want 1", mode, got)
		}
	}
}

// Help that nobody reads must not look like success to a server.
func TestHelpCodes(t *testing.T) {
	for mode, want := range map[pgdata.Mode]map[string]int{
		pgdata.Standby:         {"push": 2, "fetch": 1, "": 1, "init": 1},
		pgdata.ArchiveRecovery: {"push": 2, "fetch": 126, "": 126, "init": 126},
		pgdata.Ending:          {"push": 2, "fetch": 1, "": 2, "init": 2},
		pgdata.ByHand:          {"push": 0, "fetch": 0, "": 0, "init": 0},
	} {
		for command, code := range want {
			if got := (caller{command: command, mode: mode, help: true}).code(nil); got != code {
				t.Errorf("%q --help, %s: %d, want %d", command, mode, got, code)
			}
		}
	}
}

func TestSignalCodes(t *testing.T) {
	for _, c := range []struct {
		command string
		mode    pgdata.Mode
		signal  os.Signal
		want    int
	}{
		{"push", pgdata.Ending, syscall.SIGTERM, 15},
		{"push", pgdata.Standby, syscall.SIGQUIT, 15},
		{"push", pgdata.ArchiveRecovery, syscall.SIGINT, 15},
		{"fetch", pgdata.Standby, syscall.SIGTERM, 143},
		{"fetch", pgdata.ArchiveRecovery, syscall.SIGTERM, 143},
		{"fetch", pgdata.Ending, syscall.SIGTERM, 143},
		{"fetch", pgdata.ByHand, syscall.SIGTERM, 143},
		{"fetch", pgdata.Standby, syscall.SIGINT, 1},
		{"fetch", pgdata.ArchiveRecovery, syscall.SIGQUIT, 126},
		{"fetch", pgdata.Ending, syscall.SIGHUP, 1},
		{"fetch", pgdata.ByHand, syscall.SIGINT, 126},
		{"", pgdata.ArchiveRecovery, syscall.SIGINT, 126},
		{"", pgdata.Standby, syscall.SIGINT, 1},
		{"init", pgdata.ByHand, syscall.SIGINT, 15},
		{"init", pgdata.Ending, syscall.SIGTERM, 15},
	} {
		if got := (caller{command: c.command, mode: c.mode}).signalCode(c.signal); got != c.want {
			t.Errorf("%q, %s, %s: %d, want %d", c.command, c.mode, c.signal, got, c.want)
		}
	}
}

// A crash of push may end with Go's own code; one of a call that archive recovery
// waits for may not.
func TestMayNotLie(t *testing.T) {
	for mode, want := range map[pgdata.Mode]map[string]bool{
		pgdata.Standby:         {"push": false, "fetch": false, "": false},
		pgdata.ArchiveRecovery: {"push": false, "fetch": true, "": true},
		pgdata.Ending:          {"push": false, "fetch": false, "": false},
		pgdata.ByHand:          {"push": false, "fetch": true, "": false},
	} {
		for command, w := range want {
			if got := (caller{command: command, mode: mode}).mayNotLie(); got != w {
				t.Errorf("%q, %s: %v", command, mode, got)
			}
		}
	}
}

func TestModeNames(t *testing.T) {
	for _, m := range modes {
		if got, ok := parseMode(modeName(m)); !ok || got != m {
			t.Errorf("%s became %s", m, got)
		}
	}
	for _, name := range []string{"", "Standby", "archive recovery", "recovery", "0"} {
		if m, ok := parseMode(name); ok {
			t.Errorf("%q is %s", name, m)
		}
	}
}
