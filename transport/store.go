// Package transport keeps named files in an archive: a local folder or a folder
// on an SFTP server. It knows how to store a file so that it survives a power
// cut and never replaces another one, and how to read it back; it knows nothing
// of WAL. It never retries silently and never reports success on a guess.
package transport

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// Names of files are relative to the root of the store, slash-separated and
// valid in the sense of [fs.ValidPath].

// FileInfo describes one entry of a folder.
type FileInfo struct {
	Name    string // base name
	Size    int64  // bytes
	ModTime time.Time
	IsDir   bool
}

// Source is the content of one Put.
type Source struct {
	// Write writes the content through w, in any order but without a hole.
	// w.WriteAt may return before the bytes have been acknowledged, and does
	// not keep p. It is called at most once, and only after the temporary file
	// has been created.
	Write func(w io.WriterAt) error

	// Confirm, if not nil, is asked once the content is on stable storage and
	// before it is published. Its error discards the content and is returned
	// by Put.
	Confirm func() error
}

// Head is the beginning of a file.
type Head struct {
	Size int64  // of the whole file, bytes
	Data []byte // its first bytes, shorter than asked for only if the file is
}

// Durability is what a store has to promise before Put may succeed.
type Durability int

const (
	// Full demands that file and folder are synced and that publishing cannot
	// replace an existing file. It is the default.
	Full Durability = iota
	// FileOnly does without the sync of the folder: a power cut of the archive
	// host may lose the last files as a whole, never a part of one.
	FileOnly
	// None takes what the server has: a power cut may lose or tear the last
	// files, and two writers of one name may replace each other's file.
	None
)

// Classes of errors, found with errors.Is. Absence, collision and permission
// are fs.ErrNotExist, fs.ErrExist and fs.ErrPermission.
var (
	ErrUnreachable = errors.New("archive unreachable")            // no connection, or it broke, or it fell silent
	ErrLogin       = errors.New("login refused")                  // no key was accepted, or none is usable
	ErrHostKey     = errors.New("host key not trusted")           // unknown or changed
	ErrFull        = errors.New("no space left on the archive")   // disk full or quota
	ErrNotDurable  = errors.New("the server cannot promise this") // less than the Durability asked for
	ErrConfig      = errors.New("configuration")                  // URL, key file, ssh_config
)

// errInvalid is what a name that is not valid answers.
func errInvalid(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
}

// hinted is an error with advice on what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint returns the advice.
func (h hinted) Hint() string { return h.hint }

// WithHint returns err with advice that Hint(err) finds.
func WithHint(err error, hint string) error { return hinted{err, hint} }

// Hint returns the advice that comes with err, or "".
func Hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
