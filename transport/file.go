package transport

import "io"

// File is a stored file opened for reading. It is used by one goroutine at a
// time. Reads fail once the context given to Open has ended; what was delivered
// up to then is right.
type File interface {
	io.ReadCloser

	// Size returns the length of the whole file in bytes, as it was when the
	// file was opened. Whoever reads compares: a file may be cut short while it
	// is read, and io.EOF says nothing of that.
	Size() int64
}
