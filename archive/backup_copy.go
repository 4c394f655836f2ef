package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"

	"walship/internal/async"
	"walship/internal/basebackup"
	"walship/internal/fault"
)

// copyBuffer is how much is read from the server at once, in bytes.
const copyBuffer = 256 << 10

// copy stores what the server gives: parts, the lists of what is in them, and
// the server's own manifest. Parts are on their way while the next is being read.
// It returns when all has been read; lists tells when all is stored.
func (r *backupRun) copy(ctx context.Context, src basebackup.Source) (lists *async.Result[[]basebackup.Ref], err error) {
	parts := make(chan *upload, inFlight) // in order
	lists = async.Go(func() ([]basebackup.Ref, error) { return r.list(ctx, parts) })

	s := &splitter{backupRun: r, ctx: ctx, src: src, parts: parts, numbers: make(map[uint32]int),
		buf: make([]byte, copyBuffer), out: bufio.NewWriterSize(nil, copyBuffer), sum: sha256.New()}
	err = s.split()
	if err != nil {
		r.cancel(err) // the uploads end with it
	}
	s.giveUp()
	close(parts)
	return lists, err
}

// list waits for the parts in their order and stores the lists of their files.
func (r *backupRun) list(ctx context.Context, parts <-chan *upload) (refs []basebackup.Ref, err error) {
	var lines bytes.Buffer
	files := 0
	flush := func() error {
		ref, err := r.putBytes(ctx, basebackup.ListName(len(refs)+1), r.as, lines.Bytes())
		if err != nil {
			return err
		}
		fault.At("backup.list-put")
		refs = append(refs, ref)
		r.manifest.StoredSize += ref.StoredSize
		lines.Reset()
		files = 0
		return nil
	}
	for up := range parts {
		ref, failed := up.wait()
		if err != nil {
			continue // the rest only has to come to an end
		}
		if err = failed; err != nil {
			continue
		}
		r.manifest.StoredSize += ref.StoredSize
		if up.part == nil {
			r.manifest.ServerManifest = &ref
			continue
		}
		up.part.Ref = ref
		r.count(up.part)
		if _, err = up.part.WriteTo(&lines); err == nil {
			if files += len(up.part.Files); files >= cmp.Or(r.listFiles, listFiles) {
				err = flush()
			}
		}
		if err != nil {
			r.cancel(err)
		}
	}
	if err == nil && lines.Len() > 0 {
		err = flush()
	}
	return refs, err
}

// count adds the files of a part to the manifest.
func (r *backupRun) count(p *basebackup.Part) {
	var size int64
	for _, f := range p.Files {
		if f.Type == basebackup.Regular {
			r.manifest.Files++
			size += f.Size
		}
	}
	r.manifest.Size += size
	for i := range r.manifest.Tablespaces {
		if t := &r.manifest.Tablespaces[i]; t.OID == p.Tablespace {
			t.Size += size
		}
	}
}

// splitter divides the server's stream into parts.
type splitter struct {
	*backupRun
	ctx     context.Context
	src     basebackup.Source
	parts   chan<- *upload
	numbers map[uint32]int // of the last part, by tablespace
	buf     []byte
	sum     hash.Hash

	// The part that is being written, if there is one.
	up   *upload
	out  *bufio.Writer
	tar  *tar.Writer
	size int64 // of its files
}

func (s *splitter) split() error {
	for {
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		e, err := s.src.Next()
		if errors.Is(err, io.EOF) {
			return s.end()
		}
		if err != nil {
			return err
		}
		if e.ServerManifest {
			err = s.serverManifest()
		} else {
			err = s.add(e)
		}
		if err != nil {
			return err
		}
	}
}

// add writes the entry to the part that it belongs to.
func (s *splitter) add(e basebackup.Entry) error {
	if err := s.check(e); err != nil {
		return err
	}
	if s.full(e) {
		if err := s.end(); err != nil {
			return err
		}
	}
	if s.up == nil {
		if err := s.begin(e.Tablespace); err != nil {
			return err
		}
	}
	f := basebackup.File{Path: e.Path, Type: e.Type, Mode: e.Mode & 0o7777, ModTime: e.ModTime, Link: e.Link}
	// Whole seconds need no extended header; the list keeps the rest.
	header := &tar.Header{Name: e.Path, Mode: int64(f.Mode), ModTime: e.ModTime.Truncate(time.Second)}
	switch e.Type {
	case basebackup.Dir:
		header.Typeflag, header.Name = tar.TypeDir, e.Path+"/"
	case basebackup.Link:
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.Link
	default:
		header.Typeflag, header.Size, f.Size = tar.TypeReg, e.Size, e.Size
	}
	if err := s.tar.WriteHeader(header); err != nil {
		return s.failed(fmt.Errorf("%s: %w", e.Path, err))
	}
	if e.Type == basebackup.Regular {
		sum, err := s.content(e)
		if err != nil {
			return err
		}
		f.SHA256 = &sum
	}
	s.size += f.Size
	s.up.part.Files = append(s.up.part.Files, f)
	return nil
}

// check refuses an entry that a list could not say, or that would not come back
// as what it is.
func (s *splitter) check(e basebackup.Entry) error {
	known := e.Tablespace == 0
	for _, t := range s.info.Tablespaces {
		known = known || t.OID == e.Tablespace
	}
	switch {
	case !fs.ValidPath(e.Path) || e.Path == "." || strings.ContainsRune(e.Path, 0) || !utf8.ValidString(e.Link):
		return fmt.Errorf("the server gives a file named %q, which walship cannot store: a name has to be UTF-8, and to stay within the data directory", e.Path)
	case e.Size < 0:
		return fmt.Errorf("%s: the server gives a size of %d bytes", e.Path, e.Size)
	case !known:
		return fmt.Errorf("%s: the server gives a file of tablespace %d, which it has not named", e.Path, e.Tablespace)
	case e.Type != basebackup.Regular && e.Type != basebackup.Dir && e.Type != basebackup.Link:
		return fmt.Errorf("%s: it is of type %q", e.Path, e.Type)
	}
	return nil
}

// full reports whether the entry begins a new part.
func (s *splitter) full(e basebackup.Entry) bool {
	if s.up == nil {
		return false
	}
	n := len(s.up.part.Files)
	return s.up.part.Tablespace != e.Tablespace ||
		n >= cmp.Or(s.partFiles, basebackup.MaxPartFiles) ||
		n > 0 && s.size+e.Size > cmp.Or(s.partSize, partSize)
}

func (s *splitter) begin(tablespace uint32) error {
	s.numbers[tablespace]++
	up, err := s.upload(s.ctx, basebackup.PartName(tablespace, s.numbers[tablespace]), &basebackup.Part{Tablespace: tablespace})
	if err != nil {
		return err
	}
	s.up, s.size = up, 0
	s.out.Reset(up.to)
	s.tar = tar.NewWriter(s.out)
	return nil
}

// end completes the part, which goes on its way.
func (s *splitter) end() error {
	if s.up == nil {
		return nil
	}
	if err := s.tar.Close(); err != nil {
		return s.failed(err)
	}
	if err := s.out.Flush(); err != nil {
		return s.failed(err)
	}
	return s.hand()
}

// hand lets the upload that has been written come to its end.
func (s *splitter) hand() error {
	up := s.up
	s.up = nil
	up.end(nil)
	select {
	case s.parts <- up:
		return nil
	case <-s.ctx.Done():
		_, _ = up.wait() // it ends with the context
		return context.Cause(s.ctx)
	}
}

// giveUp ends a part that has not been completed.
func (s *splitter) giveUp() {
	if s.up != nil {
		s.up.end(errGivenUp)
		_, _ = s.up.wait()
		s.up = nil
	}
}

var errGivenUp = errors.New("given up")

// content copies the entry's content and returns its SHA-256. The content has
// exactly the size that the entry said.
func (s *splitter) content(e basebackup.Entry) (sum basebackup.Sum, err error) {
	s.sum.Reset()
	var n int64
	for {
		read, err := s.src.Read(s.buf)
		if n += int64(read); n > e.Size {
			return sum, fmt.Errorf("%s: the server gives more than the %d bytes that it announced", e.Path, e.Size)
		}
		s.sum.Write(s.buf[:read])
		if _, werr := s.tar.Write(s.buf[:read]); werr != nil {
			return sum, s.failed(werr)
		}
		if s.Progress != nil && read > 0 {
			s.Progress(int64(read))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return sum, fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	if n != e.Size {
		return sum, fmt.Errorf("%s: the server gives %d bytes of the %d that it announced", e.Path, n, e.Size)
	}
	s.sum.Sum(sum[:0])
	return sum, nil
}

// serverManifest stores the server's own manifest as it comes.
func (s *splitter) serverManifest() error {
	if err := s.end(); err != nil {
		return err
	}
	up, err := s.upload(s.ctx, basebackup.ServerManifestFile, nil)
	if err != nil {
		return err
	}
	s.up = up
	for {
		n, err := s.src.Read(s.buf)
		if _, werr := up.to.Write(s.buf[:n]); werr != nil {
			return s.failed(werr)
		}
		if err == io.EOF {
			return s.hand()
		}
		if err != nil {
			return err
		}
	}
}

// failed is the error of a write to the upload: what has broken that says more.
func (s *splitter) failed(err error) error {
	if !errors.Is(err, errBroken) {
		return err
	}
	_, broken := s.up.wait()
	return cmp.Or(broken, err)
}
