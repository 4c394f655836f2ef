package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// FormatVersion is the version of the archive's format that this build writes
// and the newest that it reads.
const FormatVersion = 1

// MaxIdentitySize bounds walship.json, in bytes.
const MaxIdentitySize = 64 << 10

// ErrIdentity is a walship.json that cannot be used.
var ErrIdentity = errors.New("walship.json cannot be used")

// IdentityHint is what to do about it.
const IdentityHint = "is the disk whole, and was no folder renamed? a damaged walship.json is written anew by walship init once it has been moved away; one of a newer format needs a newer walship"

// Identity is what walship.json says: whose archive this is, and the properties
// that every file in it shares. It is written once.
type Identity struct {
	SystemID    uint64
	SegmentSize int64  // bytes
	Codec       string // how files are stored: zstd, gzip or none
	Created     time.Time
}

type identityJSON struct {
	Version     int       `json:"format_version"`
	SystemID    string    `json:"system_identifier"`
	SegmentSize int64     `json:"segment_size"`
	Codec       string    `json:"codec"`
	Created     time.Time `json:"created"`
}

// Marshal returns the file's content.
func (id Identity) Marshal() []byte {
	b, err := json.MarshalIndent(identityJSON{
		Version:     FormatVersion,
		SystemID:    strconv.FormatUint(id.SystemID, 10),
		SegmentSize: id.SegmentSize,
		Codec:       id.Codec,
		Created:     id.Created.UTC().Truncate(time.Second),
	}, "", "  ")
	if err != nil {
		panic(err) // plain values always marshal
	}
	return append(b, '\n')
}

// ParseIdentity reads walship.json and checks that it is the cluster's own. An
// error wraps ErrIdentity.
func ParseIdentity(data []byte, want Cluster) (Identity, error) {
	bad := func(format string, args ...any) (Identity, error) {
		return Identity{}, fmt.Errorf("%w: "+format, append([]any{ErrIdentity}, args...)...)
	}
	var j identityJSON
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&j); err != nil {
		return bad("it is not whole (%d bytes): %v", len(data), err)
	}
	if j.Version > FormatVersion {
		return bad("format version %d is newer than this walship knows (%d)", j.Version, FormatVersion)
	}
	id, err := strconv.ParseUint(j.SystemID, 10, 64)
	if err != nil || j.Version < 1 {
		return bad("system_identifier %q, format_version %d", j.SystemID, j.Version)
	}
	if id != want.SystemID {
		return bad("it is that of cluster %d, in the folder of cluster %d", id, want.SystemID)
	}
	switch j.Codec {
	case "zstd", "gzip", "none":
	default:
		return bad("unknown codec %q", j.Codec)
	}
	if j.SegmentSize < 1<<20 || j.SegmentSize > 1<<30 || j.SegmentSize&(j.SegmentSize-1) != 0 {
		return bad("segment_size %d", j.SegmentSize)
	}
	return Identity{SystemID: id, SegmentSize: j.SegmentSize, Codec: j.Codec, Created: j.Created}, nil
}
