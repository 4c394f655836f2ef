// Package archive puts WAL into an archive. Push stores one file for PostgreSQL's
// archive_command: nil means that this very content is in the archive, on stable
// storage. Nothing that has been stored is ever replaced; what cannot be stored
// under its name is refused, with the reason. A Pruner removes what no backup
// needs any more, a Verifier reads everything back, and Take tells what there is.
package archive

import (
	"context"
	"errors"

	"time"

	"walship/internal/crypt"
	"walship/internal/stored"
	"walship/transport"
)

// Store is the archive, as far as pushing needs it. Its methods may be called
// concurrently and keep the promises of package transport.
type Store interface {
	Put(ctx context.Context, name string, src transport.Source) error
	Head(ctx context.Context, name string, n int) (transport.Head, error)
	Open(ctx context.Context, name string) (transport.File, error)
	List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error
	Mkdir(ctx context.Context, dir string) error
	MkdirRoot(ctx context.Context) error
	Move(ctx context.Context, from, to string) error
	Sync(ctx context.Context, name string) error
	Sweep(ctx context.Context, dir string, age time.Duration) (int, error)
}

// Pusher pushes to one archive. It may be used concurrently.
type Pusher struct {
	Store Store

	// Codec is a guess at the archive's own, which always decides: the content
	// is compressed while the connection is still being made.
	Codec stored.Codec

	// Recipients, if not nil, are the only ones to whom anything may be encrypted:
	// an archive that names others, or none, gets nothing. They are also a guess
	// at the archive's own, which decide.
	Recipients *crypt.Recipients

	// HeaderCheck refuses segments whose first page does not fit their name.
	HeaderCheck bool

	// CloneGuard refuses the history file of what looks like a restored copy.
	CloneGuard bool

	// Warn is told, in one line, what the administrator should know of although
	// the file was stored.
	Warn func(text string)

	// Archive is what messages call the archive where there are several.
	Archive string

	together *agreement // nil: it is the only one
	seat     int        // its place among them
}

// Classes of errors, found with errors.Is. Beside them there are transport's.
var (
	ErrRefused  = errors.New("refused")                    // the name or the content is not what it should be
	ErrConflict = errors.New("conflict")                   // other content is archived under the name
	ErrCloned   = errors.New("looks like a restored copy") // of the cluster that the archive belongs to
	ErrArchive  = errors.New("not this cluster's archive") // absent, not initialised, another's, or damaged
	ErrLocal    = errors.New("cannot read")                // the file or the data directory
)
