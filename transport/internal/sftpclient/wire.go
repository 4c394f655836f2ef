package sftpclient

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Packet types of draft-ietf-secsh-filexfer-02, section 3.
const (
	typeInit     = 1
	typeVersion  = 2
	typeOpen     = 3
	typeClose    = 4
	typeRead     = 5
	typeWrite    = 6
	typeLstat    = 7
	typeFstat    = 8
	typeSetstat  = 9
	typeFsetstat = 10
	typeOpendir  = 11
	typeReaddir  = 12
	typeRemove   = 13
	typeMkdir    = 14
	typeRmdir    = 15
	typeStat     = 17
	typeRename   = 18
	typeSymlink  = 20
	typeStatus   = 101
	typeHandle   = 102
	typeData     = 103
	typeName     = 104
	typeAttrs    = 105
	typeExtended = 200
	typeExtReply = 201
)

// Status codes; those above 8 belong to later versions of the protocol, and
// some servers send them all the same.
const (
	statusEOF         = 1
	statusNoSuchFile  = 2
	statusPermission  = 3
	StatusFailure     = 4 // OpenSSH's word for nearly everything
	StatusUnsupported = 8
	statusNoSuchPath  = 10
	statusExists      = 11
	statusProtected   = 12
	StatusNoSpace     = 14
	StatusQuota       = 15
)

// Flags of Open.
const (
	Read   = 0x01
	Write  = 0x02
	Create = 0x08
	Trunc  = 0x10
	Excl   = 0x20
)

const (
	attrSize        = 0x01
	attrUIDGID      = 0x02
	attrPermissions = 0x04
	attrTimes       = 0x08
	attrExtended    = 0x80000000
)

var errProtocol = errors.New("the server's answer does not fit the request")

// StatusError is a request that the server refused. It is fs.ErrNotExist,
// fs.ErrPermission or fs.ErrExist where the code says so; OpenSSH's Failure
// says nothing of the kind: look instead of guessing. It is fs.ErrNotExist only
// in answer to a request by name: OpenSSH has the same code for a handle that has
// gone bad, and an open file that cannot be read is not an absent one.
type StatusError struct {
	Code    uint32
	Message string // the server's words, not to be trusted

	onHandle bool
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("status %d", e.Code)
	}
	message := e.Message
	if len(message) > 200 {
		message = message[:200]
	}
	return fmt.Sprintf("status %d %q", e.Code, message)
}

// Is makes errors.Is find the class of the status.
func (e *StatusError) Is(target error) bool {
	switch e.Code {
	case statusNoSuchFile, statusNoSuchPath:
		return target == fs.ErrNotExist && !e.onHandle
	case statusPermission, statusProtected:
		return target == fs.ErrPermission
	case statusExists:
		return target == fs.ErrExist
	}
	return false
}

// Attrs is what is known of a file. A field that the server left out is zero.
type Attrs struct {
	Size    int64
	Mode    uint32 // POSIX, with the type bits
	ModTime time.Time

	sized bool // the server has told the size
}

// IsRegular reports whether the file is an ordinary one, as far as is known.
func (a Attrs) IsRegular() bool { t := a.Mode & 0o170000; return t == 0 || t == 0o100000 }

// IsDir reports whether the file is a folder.
func (a Attrs) IsDir() bool { return a.Mode&0o170000 == 0o040000 }

// appendString appends s with its length.
func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// reader takes values off the front of b. After the first value that is cut
// short err is set and every further value is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes(n uint64) []byte {
	if r.err != nil || uint64(len(r.b)) < n {
		r.err = errProtocol
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	if v := r.bytes(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if v := r.bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) string() string { return string(r.bytes(uint64(r.uint32()))) }

func (r *reader) attrs() Attrs {
	var a Attrs
	flags := r.uint32()
	if flags&attrSize != 0 {
		size := r.uint64()
		if size > 1<<62 {
			r.err = errProtocol
		}
		a.Size, a.sized = int64(size), true
	}
	if flags&attrUIDGID != 0 {
		r.bytes(8)
	}
	if flags&attrPermissions != 0 {
		a.Mode = r.uint32()
	}
	if flags&attrTimes != 0 {
		r.uint32()
		a.ModTime = time.Unix(int64(r.uint32()), 0)
	}
	if flags&attrExtended != 0 {
		for n := r.uint32(); n > 0 && r.err == nil; n-- {
			_, _ = r.string(), r.string()
		}
	}
	return a
}
