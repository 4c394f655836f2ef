package pgdata

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Mode is what a server does that asks for a file of the archive.
type Mode uint8

const (
	// ByHand: no server asks, the folder is no data directory.
	ByHand Mode = iota
	// Ending: a data directory without a sign of recovery. A server that still
	// asks is at the end of one: 12 and later remove the sign before their last
	// questions.
	Ending
	// Standby: the server follows another one and asks again for what it misses.
	Standby
	// ArchiveRecovery: the server recovers to the end of the archive, or to a
	// point before it, and then opens.
	ArchiveRecovery
)

// String returns the mode's name.
func (m Mode) String() string {
	switch m {
	case Ending:
		return "ending"
	case Standby:
		return "standby"
	case ArchiveRecovery:
		return "archive recovery"
	}
	return "by hand"
}

// DetectMode tells from the files in dir what its server does. From 12 on
// standby.signal means Standby and recovery.signal alone ArchiveRecovery; before,
// recovery.conf means Standby if it switches standby_mode on and ArchiveRecovery
// if not. If there is none of the version's own signs, those of the others count.
// Without any it is Ending, or, if there is no global/pg_control, no data
// directory: ByHand.
//
// It never fails. Where files cannot be read or contradict each other it is
// ArchiveRecovery rather than Standby: a server in that mode must not take a
// doubt for an answer. If PG_VERSION does not tell the version, the signs of all
// versions count.
//
// It costs a few system calls and the reading of two small files.
func DetectMode(dir string) Mode {
	sure, there := present(dir, controlFile)
	if sure && !there && !exists(dir, versionFile) {
		return ByHand
	}
	mode := bySigns(dir)
	if mode == Ending && sure && !there {
		return ByHand
	}
	return mode
}

// bySigns returns the mode that the files in a data directory stand for.
func bySigns(dir string) Mode {
	version := Version(0)
	if text, err := read(filepath.Join(dir, versionFile)); err == nil {
		version, _ = ParseVersion(string(text))
	}
	signals, conf := bySignals(dir), byRecoveryConf(dir, version)
	switch {
	case version >= version12 && signals != Ending:
		return signals
	case version >= version12:
		return conf
	case version != 0 && conf != Ending:
		return conf
	case version != 0:
		return signals
	case signals == ArchiveRecovery || conf == ArchiveRecovery:
		return ArchiveRecovery
	case signals == Standby || conf == Standby:
		return Standby
	}
	return Ending
}

// bySignals returns the mode that the signal files of 12 and later stand for.
func bySignals(dir string) Mode {
	switch sure, there := present(dir, "standby.signal"); {
	case there:
		return Standby
	case !sure:
		return ArchiveRecovery
	}
	if sure, there := present(dir, "recovery.signal"); there || !sure {
		return ArchiveRecovery
	}
	return Ending
}

// byRecoveryConf returns the mode that the recovery.conf of 11 and earlier
// stands for.
func byRecoveryConf(dir string, version Version) Mode {
	settings, err := readRecoveryConf(dir, version)
	if errors.Is(err, fs.ErrNotExist) {
		if sure, there := present(dir, recoveryConf); sure && !there {
			return Ending
		}
	}
	if err != nil {
		return ArchiveRecovery
	}
	mode, _ := Lookup(settings, "standby_mode")
	if on, _ := parseBool(mode.Value); on {
		return Standby
	}
	return ArchiveRecovery
}

// present reports whether the file is there, and whether that is sure.
func present(dir, file string) (sure, there bool) {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil || errors.Is(err, fs.ErrNotExist), err == nil
}
