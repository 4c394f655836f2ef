package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"walship/internal/fault"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/internal/walpage"
	"walship/transport"
	"walship/walname"
)

// maxSmall bounds history files and backup labels, in bytes.
const maxSmall = 1 << 20

// deliver writes the stored file's content, checked, to where it is to go.
func (q *question) deliver(ctx context.Context, from string, remote transport.File) error {
	damaged := func(err error) error {
		if errors.Is(err, stored.ErrDamaged) {
			return fmt.Errorf("%s: %w", from, err)
		}
		return err
	}
	content, err := stored.Decode(stored.Source(remote), remote.Size(), stored.CodecOf(from), q.limit())
	if err != nil {
		return damaged(err)
	}
	defer content.Close()
	if err := q.checkRecord(content); err != nil {
		return damaged(err)
	}
	to, err := q.begin()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}
	if err := q.copy(to, content); err != nil && !fault.Skip("fetch.check") {
		return damaged(err)
	}
	return damaged(q.vouched(ctx, from, content))
}

func (q *question) isSegment() bool {
	return q.name.Kind == walname.KindSegment || q.name.Kind == walname.KindPartial
}

// size is the length that a segment must have, 0 if nothing tells it.
func (q *question) size() int64 {
	if q.Data != nil {
		return q.Data.Control.SegmentSize
	}
	return q.segmentSize
}

// limit is the most that the content may have.
func (q *question) limit() int64 {
	switch {
	case !q.isSegment():
		return maxSmall
	case q.size() != 0:
		return q.size()
	}
	return walname.MaxSegmentSize
}

// checkRecord compares what a stored file says of itself with what it should be.
func (q *question) checkRecord(c *stored.Content) error {
	if !c.HasRecord {
		return nil
	}
	r := c.Record
	switch {
	case r.Name != q.name.String():
		return fmt.Errorf("%w: its record says that it is %q", stored.ErrDamaged, r.Name)
	case q.cluster.SystemID != 0 && r.SystemID != q.cluster.SystemID:
		return fmt.Errorf("%w: its record says that it is of cluster %d", stored.ErrDamaged, r.SystemID)
	case q.isSegment() && q.size() != 0 && r.Size != q.size():
		return fmt.Errorf("%w: its record says %d bytes, a segment of this cluster has %d", stored.ErrDamaged, r.Size, q.size())
	}
	return nil
}

// vouched checks that a file in walship's own part of the archive is one that
// push has stored: by its record, or, where it is stored plain and cannot carry
// one, by the file beside it that names its hash. The content has been read.
func (q *question) vouched(ctx context.Context, from string, c *stored.Content) error {
	if c.HasRecord || !strings.HasPrefix(from, q.cluster.Folder()+"/") {
		return nil
	}
	if stored.CodecOf(from) != stored.Plain {
		return fmt.Errorf("%w: it carries no record", stored.ErrDamaged)
	}
	_, err := q.Store.Head(ctx, layout.Voucher(from, c.Sum()), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: its content has SHA-256 %x, for which nothing vouches", stored.ErrDamaged, c.Sum())
	}
	return err
}

// copy writes the content and checks it against its name.
func (q *question) copy(to io.Writer, content *stored.Content) error {
	front := make([]byte, walpage.MinLen)
	n, err := readFull(content, front)
	if err != nil {
		return err
	}
	front = front[:n]
	size := q.size()
	if q.isSegment() {
		if err := q.checkHeader(front, content.HasRecord); err != nil {
			return err
		}
		if h, err := walpage.Parse(front); size == 0 && err == nil && h.Known() {
			size = int64(h.SegmentSize)
		}
	}
	small := front // what a history file holds in all
	var out io.Writer = to
	if !q.isSegment() {
		out = writerFunc(func(p []byte) (int, error) { small = append(small, p...); return to.Write(p) })
	}
	if _, err := to.Write(front); err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}
	written, err := io.CopyBuffer(writerOnly{out}, readerOnly{content}, make([]byte, 256<<10))
	total := written + int64(n)
	var read readError
	switch {
	case errors.As(err, &read):
		return read.error
	case err != nil:
		return fmt.Errorf("%w: %w", ErrLocal, err)
	case total == 0:
		return fmt.Errorf("%w: its content is empty", stored.ErrDamaged)
	case q.isSegment() && size != 0 && total != size:
		return fmt.Errorf("%w: its content has %d bytes, a segment of this cluster has %d", stored.ErrDamaged, total, size)
	}
	if q.name.Kind == walname.KindHistory {
		if _, err := walname.ParseHistory(q.name.Timeline(), small); err != nil {
			return fmt.Errorf("%w: %w", stored.ErrDamaged, err)
		}
	}
	return nil
}

// checkHeader compares the first page with the name. A header that nobody here
// can read is let pass if a record vouches for the content, or if the server is
// newer than walship and the rest of the header fits.
func (q *question) checkHeader(front []byte, recorded bool) error {
	if !q.HeaderCheck {
		return nil
	}
	h, err := walpage.Parse(front)
	if err != nil {
		return fmt.Errorf("%w: %w", stored.ErrDamaged, err)
	}
	geometry, err := q.geometry(h)
	if err != nil {
		return fmt.Errorf("%w: %w", stored.ErrDamaged, err)
	}
	err = h.Check(q.name.Segment, geometry, q.cluster.SystemID)
	if err == nil && !recorded && q.Data != nil && h.Major() != q.Data.Version.String() {
		err = fmt.Errorf("its page magic is that of PostgreSQL %s, the data directory is of %s", h.Major(), q.Data.Version)
	}
	if errors.Is(err, walpage.ErrMagic) {
		newer := q.Data == nil || q.Data.Version > newestKnown
		if recorded || newer && h.Fits(q.name.Segment, geometry, q.cluster.SystemID) {
			return nil
		}
		return transport.WithHint(fmt.Errorf("%w: %w", stored.ErrDamaged, err),
			`if it is WAL that walship cannot read, such as that of a server that encrypts it: header_check = "off"`)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", stored.ErrDamaged, err)
	}
	return nil
}

// newestKnown is the newest version whose page magic walpage knows.
const newestKnown pgdata.Version = 180000

// geometry is how the cluster cuts its WAL; without a data directory the header
// itself tells.
func (q *question) geometry(h walpage.Header) (walname.Geometry, error) {
	if q.Data != nil {
		return q.Data.Geometry(), nil
	}
	size := q.segmentSize
	if size == 0 {
		size = int64(h.SegmentSize)
	}
	return walname.NewGeometry(size, h.Old())
}

// readError is an error of the side that is read from.
type readError struct{ error }

type readerOnly struct{ r io.Reader }

func (r readerOnly) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		err = readError{err}
	}
	return n, err
}

type writerOnly struct{ io.Writer }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// readFull fills p as far as the content goes.
func readFull(r io.Reader, p []byte) (int, error) {
	n, err := io.ReadFull(r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF { // not what merely wraps them
		err = nil
	}
	return n, err
}
