package archive

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/internal/walpage"
	"walship/walname"
)

// readBack reads stored WAL files and checks all that was promised of them. It
// is for one goroutine.
type readBack struct {
	store    Reader
	cluster  layout.Cluster
	size     int64 // of a segment, bytes
	geometry walname.Geometry
	headers  bool // compare the first page with the name
	keys     *crypt.Keys
	shut     func() // told of a file that is encrypted and that keys do not open; may be nil
	decoder  stored.Decoder
	buf      []byte
	page     []byte
	read     func(n int64) // told of stored bytes that have been read; may be nil
}

func newReadBack(s Reader, inv *Inventory, headers bool) *readBack {
	return &readBack{store: s, cluster: inv.Cluster, size: inv.Identity.SegmentSize, geometry: inv.Geometry, headers: headers,
		buf: make([]byte, 256<<10), page: make([]byte, 0, walpage.MinLen)}
}

func (r *readBack) close() { r.decoder.Close() }

// errMagic is a header that nobody here can judge: the rest of the file is right.
var errMagic = walpage.ErrMagic

// wal reads the WAL file f whole. nil means that it is what its name says: it
// decodes, its length and SHA-256 are those of its record or its voucher, the
// record is of this name and cluster, and the first page of a segment fits the
// name. What is wrong with the content wraps stored.ErrDamaged, an absent file
// fs.ErrNotExist; another error is one of the store. errMagic is no damage.
//
// Of an encrypted file that the keys do not open it means that it is, but for the
// MAC of its header, what was stored, with a record of this name and cluster.
func (r *readBack) wal(ctx context.Context, f StoredFile) error {
	_, err := r.content(ctx, f, nil)
	return err
}

// small is wal for a history file or a label, whose content it returns; of one
// that the keys do not open, what its header tells of it.
func (r *readBack) small(ctx context.Context, f StoredFile) ([]byte, error) {
	var b strings.Builder
	_, err := r.content(ctx, f, &b)
	return []byte(b.String()), err
}

func (r *readBack) content(ctx context.Context, f StoredFile, into io.Writer) (sum [32]byte, err error) {
	segment := f.Name.Kind == walname.KindSegment || f.Name.Kind == walname.KindPartial
	limit := int64(maxSmall)
	if segment {
		limit = r.size
	}
	c, n, err := r.decode(ctx, f.Stored, limit, into)
	if errors.Is(err, crypt.ErrNoKey) {
		return r.unopened(ctx, f, into)
	}
	if err != nil {
		return sum, err
	}
	sum = c.Sum()
	if c.HasRecord {
		if err := r.records(f, c.Record); err != nil {
			return sum, err
		}
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", stored.ErrDamaged, fmt.Sprintf(format, args...))
	}
	plain := stored.CodecOf(f.Stored) == stored.Plain
	switch {
	case !c.HasRecord && !plain:
		return sum, bad("it carries no record")
	case segment && n != r.size:
		return sum, bad("its content has %d bytes, a segment has %d", n, r.size)
	}
	if !c.HasRecord {
		if err := r.vouched(ctx, f.Stored, sum); err != nil {
			return sum, err
		}
	}
	if err := tokenFits(f, sum); err != nil {
		return sum, err
	}
	if segment && r.headers {
		return sum, r.header(f.Name.Segment)
	}
	return sum, nil
}

// records compares what a file says of itself with what its name says.
func (r *readBack) records(f StoredFile, rec stored.Record) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: its record says that %s", stored.ErrDamaged, fmt.Sprintf(format, args...))
	}
	switch {
	case rec.SystemID != r.cluster.SystemID:
		return bad("it is of cluster %d", rec.SystemID)
	case rec.Name != f.Name.String():
		return bad("it is %q", rec.Name)
	case rec.SegmentSize != 0 && rec.SegmentSize != r.size:
		return bad("segments have %d bytes, here they have %d", rec.SegmentSize, r.size)
	}
	return nil
}

// tokenFits compares the digits in the name of another partial segment of one
// name with its content's SHA-256.
func tokenFits(f StoredFile, sum [32]byte) error {
	if token, ok := partialToken(path.Base(f.Stored)); ok && token != hex.EncodeToString(sum[:4]) {
		return fmt.Errorf("%w: its content has SHA-256 %x, its name says %s", stored.ErrDamaged, sum[:4], token)
	}
	return nil
}

// unopened is content for a file that the keys do not open.
func (r *readBack) unopened(ctx context.Context, f StoredFile, into io.Writer) (sum [32]byte, err error) {
	rec, err := r.sealed(ctx, f.Stored)
	if err == nil {
		err = r.records(f, rec)
	}
	if err == nil {
		err = tokenFits(f, rec.SHA256)
	}
	if segment := f.Name.Kind == walname.KindSegment || f.Name.Kind == walname.KindPartial; err == nil && segment && rec.Size != r.size {
		err = fmt.Errorf("%w: its record says that it has %d bytes, a segment has %d", stored.ErrDamaged, rec.Size, r.size)
	}
	if err != nil || into == nil {
		return rec.SHA256, err
	}
	head, err := r.store.Head(ctx, f.Stored, 2*maxSmall)
	if err == nil {
		_, err = into.Write(stored.Told(head.Data))
	}
	return rec.SHA256, err
}

// sealed reads an encrypted file whole without its key, and returns its record.
func (r *readBack) sealed(ctx context.Context, name string) (stored.Record, error) {
	remote, err := r.store.Open(ctx, name)
	if err != nil {
		return stored.Record{}, err
	}
	defer remote.Close()
	rec, err := stored.CheckSealed(stored.Source(&counted{remote, r.read}), remote.Size())
	if err == nil && r.shut != nil {
		r.shut()
	}
	return rec, err
}

// decode reads a stored file to its end and keeps the first bytes of its content.
func (r *readBack) decode(ctx context.Context, name string, limit int64, into io.Writer) (*stored.Content, int64, error) {
	codec := stored.CodecOf(name)
	if codec.IsSealed() && r.keys == nil {
		return nil, 0, crypt.ErrNoKey
	}
	remote, err := r.store.Open(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	defer remote.Close()
	c, err := r.decoder.Decode(stored.Source(&counted{remote, r.read}), remote.Size(), codec, limit, r.keys)
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	r.page = r.page[:0]
	var total int64
	for {
		n, err := c.Read(r.buf)
		if len(r.page) < walpage.MinLen {
			r.page = append(r.page, r.buf[:min(n, walpage.MinLen-len(r.page))]...)
		}
		total += int64(n)
		if into != nil {
			if _, werr := into.Write(r.buf[:n]); werr != nil {
				return c, total, werr
			}
		}
		if err == io.EOF {
			return c, total, nil
		}
		if err != nil {
			return c, total, err
		}
	}
}

// counted tells of what is read.
type counted struct {
	io.Reader
	tell func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.tell != nil && n > 0 {
		c.tell(int64(n))
	}
	return n, err
}

// vouched demands the file that vouches for plain content.
func (r *readBack) vouched(ctx context.Context, name string, sum [32]byte) error {
	head, err := r.store.Head(ctx, layout.Voucher(name, sum), 256)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: its content has SHA-256 %x, for which nothing vouches", stored.ErrDamaged, sum)
	}
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%x  %s\n", sum, path.Base(name)); string(head.Data) != want {
		return fmt.Errorf("%w: the file that vouches for it does not say so", stored.ErrDamaged)
	}
	return nil
}

// header compares the first page that was read with the segment's name.
func (r *readBack) header(s walname.Segment) error {
	h, err := walpage.Parse(r.page)
	if err != nil {
		return fmt.Errorf("%w: %w", stored.ErrDamaged, err)
	}
	err = h.Check(s, r.geometry, r.cluster.SystemID)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, walpage.ErrMagic) && h.Fits(s, r.geometry, r.cluster.SystemID):
		return err
	}
	// Not both: what wraps ErrMagic here is no damage.
	return fmt.Errorf("%w: %v", stored.ErrDamaged, err)
}

// partialToken returns the digits in the name of another partial segment of one
// name, which begin its SHA-256.
func partialToken(base string) (string, bool) {
	parts := strings.Split(base, ".")
	if len(parts) < 3 || parts[2] != "partial" || len(parts[1]) != 8 {
		return "", false
	}
	return parts[1], true
}
