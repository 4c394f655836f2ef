package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"walship/walname"
)

// Target is the timeline at which a recovery aims: the latest, the one that the
// cluster is on, or the one that was asked for by number.
type Target struct {
	Latest  bool
	Current bool

	// Timeline is what was asked for; with Current it is the one that
	// pg_control names, with Latest it is 0.
	Timeline walname.Timeline
}

const targetSetting = "recovery_target_timeline"

// RecoveryTarget returns the timeline at which a server that recovers in d aims,
// as recovery_target_timeline is set now; a running server keeps the one that it
// was started with. Unset it means the current timeline before 12 and the latest
// one from 12 on.
//
// Before 12 it is read from recovery.conf, which may be absent. From 12 on it is
// looked for as the server does: in postgresql.conf, wherever the server's
// command line says that this is, in postgresql.auto.conf, and on that command
// line, of which the server leaves a copy in postmaster.opts. A file that the
// server would refuse and a target that is no timeline are errors; the error
// wraps fs.ErrNotExist if there is no postgresql.conf.
func (d *Dir) RecoveryTarget() (Target, error) {
	settings, err := d.recoverySettings()
	if err != nil {
		return Target{}, err
	}
	set, ok := Lookup(settings, targetSetting)
	if !ok {
		if d.Version < version12 {
			return d.current(), nil
		}
		return Target{Latest: true}, nil
	}
	if set.Value == "latest" {
		return Target{Latest: true}, nil
	}
	if set.Value == "current" && d.Version >= version12 {
		return d.current(), nil
	}
	tl, ok := strtoul(set.Value)
	switch {
	case ok && tl != 0:
		return Target{Timeline: walname.Timeline(tl)}, nil
	case ok && d.Version < version12:
		// Older servers read whatever is no number as 0, and 0 as the latest.
		return Target{Latest: true}, nil
	}
	return Target{}, fmt.Errorf("%s: %s = %q is no timeline", set.File, targetSetting, clip(set.Value))
}

// current is the timeline that a server aims at by default, or told "current":
// the checkpoint's, or the one up to which it has already recovered.
func (d *Dir) current() Target {
	return Target{Current: true, Timeline: max(d.Control.Timeline, d.Control.MinRecoveryTimeline)}
}

// recoverySettings returns the settings among which the target is, the one that
// holds last.
func (d *Dir) recoverySettings() ([]Setting, error) {
	if d.Version < version12 {
		settings, err := readRecoveryConf(d.Path, d.Version)
		if errors.Is(err, fs.ErrNotExist) && !exists(d.Path, recoveryConf) {
			return nil, nil
		}
		return settings, err
	}
	return d.Settings()
}

// strtoul reads a number as C's function of that name does with base 0, which
// PostgreSQL uses for timelines: octal after 0 and hexadecimal after 0x, and 0 if
// there is no number. What follows the digits is passed over, and only the lower
// 32 bits count. It returns false if the number exceeds 64 bits.
func strtoul(s string) (uint32, bool) {
	s = strings.TrimLeft(s, space)
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	base, class := 10, digit
	switch {
	case len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' && hexDigit(s[2]):
		base, class, s = 16, hexDigit, s[2:]
	case strings.HasPrefix(s, "0"):
		base, class = 8, octalDigit
	}
	n := span(s, class)
	if n == 0 {
		return 0, true
	}
	v, err := strconv.ParseUint(s[:n], base, 64)
	if negative {
		v = -v
	}
	return uint32(v), err == nil
}

// Settings returns the server's settings in the order in which they are applied:
// postgresql.conf with its includes, postgresql.auto.conf from 9.4 on, the
// command line of the server's last start, whose settings have postmaster.opts
// for their File and the Line 1. Where postgresql.conf is also comes from that
// command line: -c config_file, or the folder of -D, and otherwise the data
// directory. The errors are those of [ReadConf].
func (d *Dir) Settings() ([]Setting, error) {
	line, err := d.commandLine()
	if err != nil {
		return nil, err
	}
	settings, err := ReadConf(d.confPath(line))
	if err != nil {
		return nil, err
	}
	if d.Version >= version94 && exists(d.Path, "postgresql.auto.conf") {
		auto, err := ReadConf(filepath.Join(d.Path, "postgresql.auto.conf"))
		if err != nil {
			return nil, err
		}
		settings = append(settings, auto...)
	}
	return append(settings, line.settings...), nil
}

// confPath returns where the server's postgresql.conf is. A relative path on the
// command line was relative to a folder that nothing records; the data directory
// is the best guess.
func (d *Dir) confPath(line commandLine) string {
	if set, ok := Lookup(line.settings, "config_file"); ok {
		if filepath.IsAbs(set.Value) {
			return set.Value
		}
		return filepath.Join(d.Path, set.Value)
	}
	if filepath.IsAbs(line.dir) && exists(line.dir, "postgresql.conf") {
		return filepath.Join(line.dir, "postgresql.conf")
	}
	return filepath.Join(d.Path, "postgresql.conf")
}
