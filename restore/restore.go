// Package restore gets WAL out of an archive. Fetch delivers one file for
// PostgreSQL's restore_command, checked and whole, or says why not; above all it
// tells an archive that does not have the file from one that could not be asked,
// because PostgreSQL takes the former for the end of WAL. It never writes to the
// archive.
package restore

import (
	"context"
	"errors"
	"time"

	"walship/internal/crypt"
	"walship/internal/pgdata"
	"walship/transport"
)

// Store is the archive, as far as fetching needs it. Its methods may be called
// concurrently and keep the promises of package transport.
type Store interface {
	Head(ctx context.Context, name string, n int) (transport.Head, error)
	Open(ctx context.Context, name string) (transport.File, error)
	List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error
}

// Fetcher fetches from one archive. It may be used concurrently.
type Fetcher struct {
	Store Store

	// ForkGuard withholds a segment of a timeline that a newer one has left, and
	// GapGuard takes a hole for what it is and not for the end of WAL.
	ForkGuard, GapGuard bool

	// Keys open what is encrypted. Without the right one the answer is doubt.
	Keys *crypt.Keys

	// HeaderCheck compares the first page of a segment with its name.
	HeaderCheck bool

	// Warn is told, in one line, what the administrator should know of although
	// the file was delivered.
	Warn func(text string)

	// Archive is what messages call the archive where there are several, and
	// Patience how long it is waited for, if it says nothing, once another has the
	// file; 0 is 2 seconds.
	Archive  string
	Patience time.Duration

	// Sure makes it an error, with several archives, if one that cannot be asked
	// might know of a newer timeline that the fork guard would heed: for who can
	// ask again in another way.
	Sure bool
}

// Request is one question of PostgreSQL's, or of a person.
type Request struct {
	Name string      // of the WAL file
	Path string      // where to deliver it
	Data *pgdata.Dir // the data directory that it is for; nil if it is not known
	Mode pgdata.Mode
}

// The answers other than delivery, found with errors.Is. Everything else that
// Fetch returns is doubt: nobody can say whether the archive has the file.
var (
	// ErrNotThere: an archive that has shown itself to be this cluster's does
	// not have the file.
	ErrNotThere = errors.New("not in the archive")
	// ErrWithheld: a guard does not let PostgreSQL have the answer, which is
	// honest and would lead it astray.
	ErrWithheld = errors.New("withheld")
)

// Classes of doubt. Beside them there are transport's, stored.ErrDamaged,
// crypt.ErrNoKey and crypt.ErrIdentity.
var (
	ErrName    = errors.New("no WAL file is called so")
	ErrArchive = errors.New("not this cluster's archive") // absent, not initialised, another's, or damaged
	ErrLocal   = errors.New("cannot deliver")             // disk full, no permission, no folder
)
