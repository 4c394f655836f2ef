package basebackup

import (
	"io"
	"time"

	"walship/walname"
)

// Source is a base backup that a server is giving: its entries one after the
// other, the data directory's own and those of every tablespace, each tablespace
// in one piece. It is used by one goroutine at a time.
type Source interface {
	// Info tells what is known since the backup began.
	Info() Info

	// Next goes on to the next entry; what was not read of the one before is
	// passed over. io.EOF follows the last one.
	Next() (Entry, error)

	// Read reads the content of the entry: io.EOF after exactly Entry.Size bytes,
	// or at the end of the server's manifest. A content that ends early is an
	// error.
	Read(p []byte) (int, error)

	// Finish ends the backup after Next has returned io.EOF. Without its nil there
	// is no backup.
	Finish() (End, error)

	// Close gives up what has not been finished, and leaves no backup mode behind.
	io.Closer
}

// Info is known when a backup begins.
type Info struct {
	SystemID      uint64
	PostgreSQL    string // major version: "9.6", "15"
	ServerVersion string // as the server says it
	SegmentSize   int64  // bytes
	SkipFF        bool   // 9.0 to 9.2: see walname.Geometry
	Timeline      walname.Timeline
	StartLSN      walname.LSN
	Begin         time.Time // by the server's clock
	Standby       bool
	Checksums     bool // the cluster has data checksums
	Method        string
	Label         string
	Tablespaces   []Tablespace // Size is what the server expects, 0 if it does not say
	Size          int64        // what the server expects in all, bytes; 0 if it does not say
}

// Entry is a file, a folder or a symbolic link of a backup, or the server's own
// manifest.
type Entry struct {
	Tablespace     uint32 // OID; 0 is the data directory
	Path           string // relative to the data directory or tablespace, slash-separated, clean
	Type           Type
	Size           int64 // bytes; -1 if ServerManifest
	Mode           uint32
	ModTime        time.Time
	Link           string
	ServerManifest bool
}

// End is known when a backup has ended.
type End struct {
	Timeline walname.Timeline
	EndLSN   walname.LSN
	End      time.Time // by the server's clock
}
