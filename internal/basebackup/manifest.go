package basebackup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"walship/walname"
)

// FormatVersion is the version that this build writes and the newest it reads.
const FormatVersion = 1

// MaxManifestSize bounds a manifest, in bytes.
const MaxManifestSize = 4 << 20

// ErrDamaged is a manifest or a list that is not what it was when it was stored.
var ErrDamaged = errors.New("damaged")

// Manifest says what a backup is. Its size depends on the number of tablespaces
// and, very little, on that of the files.
type Manifest struct {
	Version     int       `json:"format_version"`
	Backup      string    `json:"backup"` // its ID
	SystemID    uint64    `json:"system_identifier,string"`
	PostgreSQL  string    `json:"postgresql"`     // major version: "9.6", "15"
	Server      string    `json:"server_version"` // as the server says it
	SegmentSize int64     `json:"segment_size"`   // bytes
	Method      string    `json:"method"`         // "protocol" or "files"
	Standby     bool      `json:"from_standby"`
	Checksums   bool      `json:"data_checksums"`
	Label       string    `json:"label,omitempty"`
	Begin       time.Time `json:"begin"` // by the server's clock
	End         time.Time `json:"end"`

	Timeline walname.Timeline `json:"timeline"`
	// StartLSN is the redo position from which recovery reads WAL, EndLSN the one
	// that it must reach before the copy is consistent.
	StartLSN walname.LSN `json:"start_lsn"`
	EndLSN   walname.LSN `json:"end_lsn"`

	Tablespaces []Tablespace `json:"tablespaces"` // without the data directory itself
	Files       int64        `json:"files"`       // regular files
	Size        int64        `json:"size"`        // of their contents, bytes
	StoredSize  int64        `json:"stored_size"` // of all that is stored but this manifest, bytes

	Lists          []Ref  `json:"lists"` // in order; those of one tablespace may mix with another's
	Config         *Ref   `json:"config,omitempty"`
	ServerManifest *Ref   `json:"backup_manifest,omitempty"`
	Walship        string `json:"walship"` // version that made it
}

// Tablespace is one outside the data directory.
type Tablespace struct {
	OID      uint32 `json:"oid"`
	Location string `json:"location"` // path on the server
	Size     int64  `json:"size"`     // of its files' contents, bytes
}

// Ref is a stored file that is vouched for.
type Ref struct {
	Name       string `json:"name"` // in the backup's folder, as stored, with its extension
	Size       int64  `json:"size"` // of the content, bytes
	StoredSize int64  `json:"stored_size"`
	SHA256     Sum    `json:"sha256"` // of the content
}

// Sum is a SHA-256, written in hexadecimal digits.
type Sum [sha256.Size]byte

// MarshalText writes lower-case hexadecimal digits.
func (s Sum) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s[:])), nil }

// UnmarshalText reads exactly what MarshalText writes.
func (s *Sum) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(s) || hex.EncodeToString(b) != string(text) {
		return fmt.Errorf("%q is no SHA-256", text)
	}
	copy(s[:], b)
	return nil
}

// The last line of a manifest is the SHA-256 of all lines before it, as in the
// server's own backup_manifest.
const (
	sumLine = "\"manifest_sha256\": \""
	sumEnd  = "\"}\n"
)

// Marshal returns the file's content: JSON, whose last line vouches for the rest.
func (m Manifest) Marshal() ([]byte, error) {
	m.Version = FormatVersion
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	b = append(bytes.TrimSuffix(b, []byte("\n}")), ",\n"...)
	sum := sha256.Sum256(b)
	return append(b, sumLine+hex.EncodeToString(sum[:])+sumEnd...), nil
}

// ParseManifest reads a manifest and checks that it is whole and that of id. An
// error wraps ErrDamaged, unless the manifest is of a newer format.
func ParseManifest(data []byte, id ID) (Manifest, error) {
	bad := func(format string, args ...any) (Manifest, error) {
		return Manifest{}, fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
	}
	text, ok := strings.CutSuffix(string(data), sumEnd)
	at := strings.LastIndexByte(text, '\n') + 1
	if !ok || at == 0 || !strings.HasPrefix(text[at:], sumLine) {
		return bad("it is not whole (%d bytes)", len(data))
	}
	if sum := sha256.Sum256(data[:at]); text[at+len(sumLine):] != hex.EncodeToString(sum[:]) {
		return bad("it is not what its last line vouches for")
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return bad("%v", err)
	}
	switch {
	case m.Version > FormatVersion:
		return Manifest{}, fmt.Errorf("format version %d is newer than this walship knows (%d)", m.Version, FormatVersion)
	case m.Version < 1:
		return bad("format_version %d", m.Version)
	case m.Backup != id.String():
		return bad("it is that of backup %s", m.Backup)
	case m.Timeline == 0 || m.EndLSN < m.StartLSN || m.Size < 0 || m.Files < 0 || m.StoredSize < 0:
		return bad("its numbers cannot be")
	}
	if _, err := walname.NewGeometry(m.SegmentSize, false); err != nil {
		return bad("%v", err)
	}
	return m, nil
}

// ID returns the backup's name. It is that of a manifest that ParseManifest has
// returned.
func (m Manifest) ID() ID { id, _ := ParseID(m.Backup); return id }
