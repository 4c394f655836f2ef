// Package stored is the form in which a WAL file lies in an archive: an ordinary
// zstd, gzip or plain file, or one of these encrypted with age. What walship knows
// of the content, its Record, travels at the head of the file where the format's
// own tool skips it, so that one short read tells it and "zstd -dc", "gzip -dc" or
// "age -d" gives the content. The package never touches a store.
package stored

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
)

// Record is what is known of a stored file's content.
type Record struct {
	Name        string // of the WAL file
	Size        int64  // of the content, bytes
	SHA256      [32]byte
	StoredSize  int64  // of the stored file, bytes
	SystemID    uint64 // of the cluster
	SegmentSize int64  // of the cluster, bytes
	Version     string // of PostgreSQL: "9.6", "15"; "" if unknown
	Time        time.Time

	// Sealed, of an encrypted file, is the SHA-256 of what follows the record, but
	// for the header's MAC: it tells without the key whether the file is what it
	// was. Zero for other files.
	Sealed [32]byte
}

// ErrDamaged is a stored file that is not what it was when it was stored: cut
// short, altered, or another one under its name.
var ErrDamaged = errors.New("stored file is damaged")

// A record is one line of text, padded with spaces to recordSize bytes:
//
//	walship 1 <CRC-32C of the JSON, 8 hex digits> {"name":…}
//
// Its length is fixed, so that it can be written when the content, whose hash
// and stored size it holds, has gone out before it.
const (
	recordSize  = 504
	recordMagic = "walship 1 "
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type recordJSON struct {
	Name        string    `json:"name"`
	Size        int64     `json:"size"`
	SHA256      string    `json:"sha256"`
	StoredSize  int64     `json:"stored_size"`
	SystemID    string    `json:"system_identifier"`
	SegmentSize int64     `json:"segment_size"`
	Version     string    `json:"postgresql,omitempty"`
	Time        time.Time `json:"time"`
	Sealed      string    `json:"sealed_sha256,omitempty"`
}

func (r Record) marshal() ([]byte, error) {
	sealed := ""
	if r.Sealed != [32]byte{} {
		sealed = hex.EncodeToString(r.Sealed[:])
	}
	j, err := json.Marshal(recordJSON{
		Name: r.Name, Size: r.Size, SHA256: hex.EncodeToString(r.SHA256[:]), StoredSize: r.StoredSize,
		SystemID: strconv.FormatUint(r.SystemID, 10), SegmentSize: r.SegmentSize, Version: r.Version,
		Time: r.Time.UTC().Truncate(time.Second), Sealed: sealed,
	})
	if err != nil {
		return nil, err
	}
	line := fmt.Sprintf("%s%08x %s", recordMagic, crc32.Checksum(j, castagnoli), j)
	if len(line) >= recordSize {
		return nil, fmt.Errorf("the record of %s is too long (%d bytes)", r.Name, len(line))
	}
	b := bytes.Repeat([]byte{' '}, recordSize)
	copy(b, line)
	b[recordSize-1] = '\n'
	return b, nil
}

func unmarshalRecord(b []byte) (Record, error) {
	bad := func(what string) (Record, error) {
		return Record{}, fmt.Errorf("%w: its record %s", ErrDamaged, what)
	}
	if len(b) != recordSize {
		return bad("has a wrong length")
	}
	rest, ok := bytes.CutPrefix(b, []byte(recordMagic))
	if !ok {
		return bad("is not one, or of a newer format")
	}
	j := bytes.TrimRight(rest[9:], " \n")
	if string(rest[:9]) != fmt.Sprintf("%08x ", crc32.Checksum(j, castagnoli)) {
		return bad("fails its checksum")
	}
	var v recordJSON
	if err := json.Unmarshal(j, &v); err != nil {
		return bad("cannot be read")
	}
	r := Record{Name: v.Name, Size: v.Size, StoredSize: v.StoredSize, SegmentSize: v.SegmentSize, Version: v.Version, Time: v.Time}
	sum, err := hex.DecodeString(v.SHA256)
	if err != nil || copy(r.SHA256[:], sum) != len(r.SHA256) || len(sum) != len(r.SHA256) {
		return bad("has no SHA-256")
	}
	if v.Sealed != "" {
		sum, err := hex.DecodeString(v.Sealed)
		if err != nil || len(sum) != len(r.Sealed) {
			return bad("has no SHA-256 of the encrypted content")
		}
		copy(r.Sealed[:], sum)
	}
	if r.SystemID, err = strconv.ParseUint(v.SystemID, 10, 64); err != nil {
		return bad("has no system identifier")
	}
	if r.Size < 0 || r.StoredSize < 0 {
		return bad("has a negative size")
	}
	return r, nil
}

// The head of a zstd file is a skippable frame (RFC 8878, section 3.1.2); that
// of a gzip file is a member of its own without content, whose extra field
// (RFC 1952, section 2.3.1.1) has the subfield "WS". That of an encrypted file is
// the first stanza of age's header: see seal.go.
const (
	skippableMagic = 0x184D2A57
	zstdHeadSize   = 8 + recordSize
	gzipHeadSize   = 10 + 2 + 4 + recordSize + 2 + 8

	// HeadSize is how many bytes from the front of a stored file are enough for
	// ParseHead.
	HeadSize = gzipHeadSize
)

func (c Codec) head(r Record) ([]byte, error) {
	if c == Plain {
		return nil, nil
	}
	record, err := r.marshal()
	if err != nil {
		return nil, err
	}
	var b []byte
	switch c {
	case Zstd:
		b = binary.LittleEndian.AppendUint32(b, skippableMagic)
		b = binary.LittleEndian.AppendUint32(b, recordSize)
		b = append(b, record...)
	case Gzip:
		b = append(b, 0x1f, 0x8b, 8, 4 /* FEXTRA */, 0, 0, 0, 0, 0, 255)
		b = binary.LittleEndian.AppendUint16(b, 4+recordSize)
		b = append(b, 'W', 'S')
		b = binary.LittleEndian.AppendUint16(b, recordSize)
		b = append(b, record...)
		b = append(b, 3, 0)                   // a deflate stream without content
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // its checksum and length
	}
	return b, nil
}

// ParseHead reads the record at the front of a stored file; size is that of the
// whole file. ErrNoRecord means a file that carries none: a plain one, or one
// that another tool has made. A record that is damaged, or that tells of another
// size, is ErrDamaged: the file has been cut short.
func ParseHead(front []byte, size int64) (Record, error) {
	var record []byte
	switch {
	case len(front) >= 4 && binary.LittleEndian.Uint32(front) == skippableMagic:
		if len(front) < zstdHeadSize {
			return Record{}, fmt.Errorf("%w: it ends within its head", ErrDamaged)
		}
		record = front[8:zstdHeadSize]
	case len(front) >= 14 && front[0] == 0x1f && front[1] == 0x8b && front[3] == 4 && string(front[12:14]) == "WS":
		if len(front) < gzipHeadSize {
			return Record{}, fmt.Errorf("%w: it ends within its head", ErrDamaged)
		}
		record = front[16 : 16+recordSize]
	case bytes.HasPrefix(front, []byte(sealedIntro+recordMagic)):
		var err error
		if record, err = sealedRecord(front); err != nil {
			return Record{}, err
		}
	default:
		return Record{}, ErrNoRecord
	}
	r, err := unmarshalRecord(record)
	if err != nil {
		return Record{}, err
	}
	if r.StoredSize != size {
		return r, fmt.Errorf("%w: it has %d bytes, its record says %d", ErrDamaged, size, r.StoredSize)
	}
	return r, nil
}

// ErrNoRecord is a file without a record.
var ErrNoRecord = errors.New("the file carries no record")
