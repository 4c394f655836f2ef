package pgserver

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"strings"

	"walship/internal/basebackup"
)

// errSectionEnd says that the current archive or manifest holds nothing more.
var errSectionEnd = errors.New("the end of the section")

// entries reads the entries of one section after the other.
type entries struct {
	stream *stream
	pages  *verifier // nil: pages are not verified here
	slow   *throttle // nil: no limit

	tablespace uint32
	tar        *tar.Reader // nil between sections
	manifest   bool        // the section is the server's manifest
	begun      bool        // its entry has been returned
	file       basebackup.Entry
}

func (s *entries) openArchive(oid uint32) {
	s.tablespace, s.tar = oid, tar.NewReader((*sectionReader)(s.stream))
}

func (s *entries) openManifest() { s.manifest, s.begun = true, false }

// sectionReader reads a section's bytes: io.EOF where the next one begins.
type sectionReader stream

func (r *sectionReader) Read(p []byte) (int, error) {
	s := (*stream)(r)
	for len(s.data) == 0 {
		if s.next.kind != none {
			return 0, io.EOF
		}
		if err := s.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

func (s *entries) next() (basebackup.Entry, error) {
	switch {
	case s.manifest && !s.begun:
		s.begun = true
		s.file = basebackup.Entry{Path: basebackup.ServerManifestFile, Size: -1, Mode: 0o600, ServerManifest: true}
		return s.file, nil
	case s.manifest:
		if err := s.drain(false); err != nil {
			return basebackup.Entry{}, err
		}
		s.manifest = false
		return basebackup.Entry{}, errSectionEnd
	case s.tar == nil:
		return basebackup.Entry{}, errSectionEnd
	}
	for {
		if err := s.passOver(); err != nil {
			return basebackup.Entry{}, err
		}
		h, err := s.tar.Next()
		switch {
		case errors.Is(err, io.EOF):
			// From 15 on there is a trailer, which tar has read perhaps half of.
			if err := s.drain(true); err != nil {
				return basebackup.Entry{}, err
			}
			s.tar = nil
			return basebackup.Entry{}, errSectionEnd
		case err != nil:
			return basebackup.Entry{}, s.broken(err)
		}
		if path.Clean(h.Name) == "." {
			continue
		}
		if s.file, err = s.entry(h); err != nil {
			return basebackup.Entry{}, err
		}
		s.pages.begin(s.file)
		return s.file, nil
	}
}

// passOver reads what was left of an entry whose pages are to be verified.
func (s *entries) passOver() error {
	if s.pages.idle() {
		return nil
	}
	_, err := io.Copy(io.Discard, readerFunc(s.read))
	return err
}

// drain reads the section to its end. An archive holds only zeros there.
func (s *entries) drain(zeros bool) error {
	buffer := make([]byte, 32<<10)
	for {
		n, err := (*sectionReader)(s.stream).Read(buffer)
		if zeros && strings.Trim(string(buffer[:n]), "\x00") != "" {
			return s.stream.to.fail("it sent data behind the end of an archive")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// entry makes an entry of a header.
func (s *entries) entry(h *tar.Header) (basebackup.Entry, error) {
	e := basebackup.Entry{
		Tablespace: s.tablespace,
		Path:       path.Clean(h.Name),
		Size:       h.Size,
		Mode:       uint32(h.Mode) & 0o7777,
		ModTime:    h.ModTime.UTC(),
	}
	if path.IsAbs(e.Path) || e.Path == ".." || strings.HasPrefix(e.Path, "../") || strings.ContainsRune(e.Path, 0) {
		return e, s.stream.to.fail("it sent the path %q", h.Name)
	}
	if len(h.PAXRecords) > 0 { // no server writes them, and they can announce what is not sent
		return e, s.stream.to.fail("it sent %q with an extended header", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		e.Type, e.Size = basebackup.Dir, 0
	case tar.TypeSymlink:
		e.Type, e.Link, e.Size = basebackup.Link, h.Linkname, 0
	default:
		return e, s.stream.to.fail("it sent %q of the type %q", h.Name, h.Typeflag)
	}
	return e, nil
}

func (s *entries) read(p []byte) (int, error) {
	if s.manifest {
		return (*sectionReader)(s.stream).Read(p)
	}
	if s.tar == nil {
		return 0, io.EOF
	}
	n, err := s.tar.Read(p)
	if errPages := s.pages.write(p[:n]); errPages != nil {
		return n, errPages
	}
	if errSlow := s.slow.wait(n); errSlow != nil {
		return n, errSlow
	}
	switch {
	case errors.Is(err, io.EOF):
		if err := s.pages.end(); err != nil {
			return n, err
		}
		return n, io.EOF
	case err != nil:
		return n, s.broken(err)
	}
	return n, nil
}

// broken words what archive/tar says; what the stream says needs no more words.
func (s *entries) broken(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return s.stream.to.fail("what it sent is no whole archive: %v", err)
	}
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
