package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// FormatVersion is the newest version of the archive's format that this build
// reads. It writes 2 for an archive with recipients, so that a walship that knows
// nothing of them stores nothing there in the clear, and 1 for others.
const FormatVersion = 2

// MaxIdentitySize bounds walship.json, in bytes.
const MaxIdentitySize = 64 << 10

// ErrIdentity is a walship.json that cannot be used.
var ErrIdentity = errors.New("walship.json cannot be used")

// IdentityHint is what to do about it.
const IdentityHint = "is the disk whole, and was no folder renamed? a damaged walship.json is written anew by walship init once it has been moved away; one of a newer format needs a newer walship"

// Identity is what walship.json says: whose archive this is, and the properties
// that every file in it shares. It is written once; only the recipients may be
// replaced, for the files that come after.
type Identity struct {
	SystemID    uint64
	SegmentSize int64  // bytes
	Codec       string // how files are stored: zstd, gzip or none
	Created     time.Time

	// Recipients are to whom files are encrypted, one in each line, as in a file
	// for age -R; "" if they are not.
	Recipients string
}

// Sealed reports whether files are encrypted.
func (id Identity) Sealed() bool { return id.Recipients != "" }

// RecipientList are the recipients, one by one.
func (id Identity) RecipientList() []string {
	if id.Recipients == "" {
		return nil
	}
	return strings.Split(id.Recipients, "\n")
}

type identityJSON struct {
	Version     int       `json:"format_version"`
	SystemID    string    `json:"system_identifier"`
	SegmentSize int64     `json:"segment_size"`
	Codec       string    `json:"codec"`
	Created     time.Time `json:"created"`
	Recipients  []string  `json:"recipients,omitempty"`
}

// Marshal returns the file's content.
func (id Identity) Marshal() []byte {
	version := 1
	if id.Sealed() {
		version = 2
	}
	b, err := json.MarshalIndent(identityJSON{
		Version:     version,
		SystemID:    strconv.FormatUint(id.SystemID, 10),
		SegmentSize: id.SegmentSize,
		Codec:       id.Codec,
		Created:     id.Created.UTC().Truncate(time.Second),
		Recipients:  id.RecipientList(),
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
	if (j.Version == 2) != (len(j.Recipients) > 0) {
		return bad("format_version %d with %d recipients", j.Version, len(j.Recipients))
	}
	for _, r := range j.Recipients {
		if r == "" || strings.ContainsAny(r, "\r\n") {
			return bad("recipient %q", r)
		}
	}
	return Identity{SystemID: id, SegmentSize: j.SegmentSize, Codec: j.Codec, Created: j.Created, Recipients: strings.Join(j.Recipients, "\n")}, nil
}
