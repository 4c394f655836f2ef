package main

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"walship/archive"
	"walship/internal/basebackup"
	"walship/internal/config"
	"walship/internal/fault"
	"walship/internal/layout"
	"walship/internal/pgcheck"
	"walship/internal/pgdata"
	"walship/internal/pgrun"
	"walship/internal/pgserver"
	"walship/internal/stored"
	"walship/restore"
	"walship/transport"
)

// Exit codes. PostgreSQL reads them: see the README. They never change.
const (
	exitOK          = 0
	exitNotThere    = 1  // fetch: a healthy archive does not have the file; doubt, where that is harmless
	exitUsage       = 2  // the command line; also what a crash of push ends with
	exitConfig      = 3  // the configuration
	exitRefused     = 4  // no WAL file name, or content that does not fit it
	exitConflict    = 5  // other content is archived under the name
	exitCloned      = 6  // looks like a restored copy of the cluster
	exitArchive     = 7  // absent, not initialised, another cluster's, or damaged
	exitUnreachable = 8  // network, time limit
	exitLogin       = 9  // login refused, host key not trusted
	exitPermission  = 10 // on the archive
	exitFull        = 11 // the archive's disk or quota
	exitNotDurable  = 12 // the archive's server cannot promise what is demanded
	exitLocal       = 13 // reading or writing on this machine
	exitDamaged     = 14 // a stored file is damaged
	exitInterrupted = 15 // by a signal
	exitOther       = 16 // anything else
	exitServer      = 17 // the database server is not reachable, or it refuses
	exitUnreached   = 18 // the recovery target was not reached, or the archive cannot reach it
	exitDoubt       = 126
	exitTerminated  = 143 // fetch, by SIGTERM: PostgreSQL's own way to stop it
)

// errUsage is a command line that cannot be carried out.
var errUsage = errors.New("usage")

// errLimit ends a call whose time is up.
var errLimit = errors.New("the call's time limit has passed")

// code is the exit code for the outcome of a command.
func (c caller) code(err error) int {
	switch {
	case c.command == "fetch":
		return c.fetchCode(err)
	case err == nil && c.help && (c.command == "push" && c.mode != pgdata.ByHand || c.mode == pgdata.Ending):
		return exitUsage // perhaps an archive_command, for which 0 would be a lie
	case c.command == "push":
		return classCode(err)
	case c.recovering() && (errors.Is(err, errUsage) || c.help):
		// A restore_command that is not even a fetch.
		return c.doubt()
	case c.command == "check":
		return checkCode(err)
	}
	return classCode(err)
}

// fetchCode is for the startup process. An answer is 0 or 1; what is neither
// delivery nor a healthy archive's "not there" is doubt.
func (c caller) fetchCode(err error) int {
	switch {
	case err == nil && !c.help:
		return exitOK
	case errors.Is(err, restore.ErrNotThere):
		return exitNotThere
	case err == nil && c.mode == pgdata.ByHand:
		return exitOK // help, for a person
	}
	return c.doubt()
}

// doubt is the code for what nobody can answer. In archive recovery anything
// from 1 to 125 would be taken for the end of WAL: the server would promote and
// drop what lies behind. A standby asks again; at the end of a recovery a higher
// code would break the promotion.
func (c caller) doubt() int {
	switch {
	case c.mode == pgdata.Standby, c.mode == pgdata.Ending, fault.Skip("fetch.doubt"):
		return exitNotThere
	}
	return exitDoubt
}

// signalCode is the code for a call that a signal has ended.
func (c caller) signalCode(s os.Signal) int {
	switch {
	case c.command == "push":
		return exitInterrupted
	case c.command == "fetch" && isTerm(s):
		return exitTerminated
	case c.command == "fetch" || c.recovering():
		return c.doubt()
	}
	return exitInterrupted
}

// classCode gives each class of errors its code.
func classCode(err error) int {
	if err == nil {
		return exitOK
	}
	var told *errAgent
	if errors.As(err, &told) {
		return told.code
	}
	for _, class := range []struct {
		err  error
		code int
	}{
		{errUsage, exitUsage},
		{pgrun.ErrUnreached, exitUnreached},
		{errDrill, exitDamaged},
		{errPlace, exitLocal},
		{errFaults, exitDamaged},
		{pgrun.ErrOwner, exitLocal},
		{pgrun.ErrNoServer, exitLocal},
		{config.ErrConfig, exitConfig},
		{transport.ErrConfig, exitConfig},
		{errNotAgreed, exitConflict},
		{errLocalFile, exitLocal},
		{archive.ErrConflict, exitConflict},
		{archive.ErrCloned, exitCloned},
		{archive.ErrRefused, exitRefused},
		{restore.ErrName, exitRefused},
		{archive.ErrWAL, exitServer},
		{archive.ErrArchive, exitArchive},
		{restore.ErrArchive, exitArchive},
		{restore.ErrOptions, exitUsage},
		{restore.ErrNoWay, exitUnreached},
		{layout.ErrIdentity, exitArchive},
		{archive.ErrLocal, exitLocal},
		{restore.ErrLocal, exitLocal},
		{pgdata.ErrNotDataDir, exitLocal},
		{transport.ErrHostKey, exitLogin},
		{transport.ErrLogin, exitLogin},
		{transport.ErrNotDurable, exitNotDurable},
		{transport.ErrFull, exitFull},
		{transport.ErrUnreachable, exitUnreachable},
		{errLimit, exitUnreachable},
		{context.DeadlineExceeded, exitUnreachable},
		{stored.ErrDamaged, exitDamaged},
		{basebackup.ErrDamaged, exitDamaged},
		{pgserver.ErrChecksum, exitDamaged},
		{pgserver.ErrLocal, exitLocal},
		{pgserver.ErrServer, exitServer},
		{pgrun.ErrServerEnded, exitServer},
		{pgrun.ErrStillRuns, exitServer},
		{pgcheck.ErrCheck, exitServer},
		{fs.ErrPermission, exitPermission},
	} {
		if errors.Is(err, class.err) {
			return class.code
		}
	}
	return exitOther
}
