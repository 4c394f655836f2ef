package archive

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/internal/walpage"
	"walship/transport"
	"walship/walname"
)

// maxSmall bounds history files and backup labels, in bytes.
const maxSmall = 1 << 20

// file is the file that is being pushed.
type file struct {
	f    *os.File
	name walname.Name
	path string
	size int64

	data     *pgdata.Dir // nil if it is not known
	cluster  layout.Cluster
	geometry walname.Geometry // zero without data and header
	header   walpage.Header   // of a segment or partial segment
	version  string           // of PostgreSQL, "" if it is not known
	known    *[32]byte        // SHA-256 of the content, nil if it has to be read for it
}

// openFile opens the file and learns which cluster it belongs to. It checks no
// more of the content than that needs.
func openFile(data *pgdata.Dir, path, name string) (*file, error) {
	n, err := walname.Parse(name)
	if err != nil {
		return nil, transport.WithHint(fmt.Errorf("%w: %w", ErrRefused, err),
			"archive_command passes the name as %f and the path as %p: walship push %p %f")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLocal, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %w", ErrLocal, err)
	}
	w := &file{f: f, name: n, path: path, size: info.Size(), data: data}
	if err := w.identify(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return w, nil
}

func (f *file) close() { _ = f.f.Close() }

// source reads the file from its beginning.
func (f *file) source() io.Reader { return io.NewSectionReader(f.f, 0, f.size) }

func (f *file) isSegment() bool {
	return f.name.Kind == walname.KindSegment || f.name.Kind == walname.KindPartial
}

// identify finds the cluster and its geometry: from the data directory, else
// from the segment's own header.
func (f *file) identify() error {
	if f.isSegment() {
		page := make([]byte, walpage.MinLen)
		n, err := f.f.ReadAt(page, 0)
		if err != nil && err != io.EOF {
			return fmt.Errorf("%w: %w", ErrLocal, err)
		}
		if n == len(page) {
			f.header, _ = walpage.Parse(page) // what is wrong with it, check says
		}
	}
	switch {
	case f.data != nil:
		f.cluster = layout.Cluster{SystemID: f.data.Control.SystemID}
		f.geometry = f.data.Geometry()
		f.version = f.data.Version.String()
		return nil
	case f.isSegment() && f.header.Known() && f.header.Long:
		f.cluster = layout.Cluster{SystemID: f.header.SystemID}
		f.version = f.header.Major()
		geometry, err := walname.NewGeometry(int64(f.header.SegmentSize), f.header.Old())
		if err != nil {
			return f.refuse("its header names a segment size of %d bytes", f.header.SegmentSize)
		}
		f.geometry = geometry
		return nil
	}
	return transport.WithHint(
		fmt.Errorf("%w: which cluster %s belongs to is not known: there is no data directory", ErrLocal, f.path),
		"run walship in the data directory, or name it with -D or PGDATA")
}

func (f *file) refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrRefused, f.name, fmt.Sprintf(format, args...))
}

// check refuses content that is not what the name says. warn is told of a
// header that nobody here can judge.
func (f *file) check(headers bool, warn func(string)) error {
	switch f.name.Kind {
	case walname.KindHistory:
		return f.checkHistory()
	case walname.KindBackup:
		if f.size == 0 || f.size > maxSmall {
			return f.refuse("a backup label of %d bytes", f.size)
		}
		return nil
	}
	if err := f.geometry.Check(f.name.Segment); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if f.size != f.geometry.SegmentSize {
		return f.refuse("it has %d bytes, a segment of this cluster has %d", f.size, f.geometry.SegmentSize)
	}
	if !headers {
		return nil
	}
	err := f.header.Check(f.name.Segment, f.geometry, f.cluster.SystemID)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, walpage.ErrMagic) && f.header.Fits(f.name.Segment, f.geometry, f.cluster.SystemID):
		warn(fmt.Sprintf("%s: %v; the rest of its header fits, so it is stored: is this walship older than the server?", f.name, err))
		return nil
	}
	err = fmt.Errorf("%w: %s: %w", ErrRefused, f.name, err)
	if !errors.Is(err, walpage.ErrMagic) {
		return err
	}
	return transport.WithHint(err,
		`a server whose WAL walship cannot read, such as one that encrypts it, needs header_check = "off"; otherwise see whether the file is damaged: pg_waldump `+f.path)
}

func (f *file) checkHistory() error {
	if f.size > maxSmall {
		return f.refuse("a history file of %d bytes", f.size)
	}
	b, err := io.ReadAll(f.source())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLocal, err)
	}
	if _, err := walname.ParseHistory(f.name.Timeline(), b); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// history reads the file as a history file.
func (f *file) history() (walname.History, error) {
	b, err := io.ReadAll(f.source())
	if err != nil {
		return walname.History{}, fmt.Errorf("%w: %w", ErrLocal, err)
	}
	return walname.ParseHistory(f.name.Timeline(), b)
}

// sum is the SHA-256 of the content.
func (f *file) sum() (sum [32]byte, err error) {
	if f.known != nil {
		return *f.known, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f.source()); err != nil {
		return sum, fmt.Errorf("%w: %w", ErrLocal, err)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// record is what the stored file will say of itself; the encoding completes it.
func (f *file) record() stored.Record {
	return stored.Record{
		Name:        f.name.String(),
		SystemID:    f.cluster.SystemID,
		SegmentSize: f.geometry.SegmentSize,
		Version:     f.version,
		Time:        time.Now(),
	}
}

// told is what the header tells of the content if the file is encrypted.
func (f *file) told() []byte {
	if f.isSegment() || f.size > maxSmall {
		return nil
	}
	b, err := io.ReadAll(f.source())
	if err != nil {
		return nil // the reading of it all fails, too
	}
	return told(f.name.Kind, f.name.Timeline(), b)
}

// as is the same content under another name.
func (f *file) as(kind walname.Kind) *file {
	g := *f
	g.name.Kind = kind
	return &g
}
