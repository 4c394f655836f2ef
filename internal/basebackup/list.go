package basebackup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// MaxPartFiles bounds the entries of one part. So a list is read and written
// part by part in bounded memory.
const MaxPartFiles = 20000

// Part is a tar file of a backup: one line of a list.
type Part struct {
	Ref               // its content is the tar file, uncompressed
	Tablespace uint32 `json:"tablespace,omitempty"` // OID; 0 is the data directory
	Files      []File `json:"files"`                // in the order of the tar file
}

// File is one entry of a part.
type File struct {
	Path    string    `json:"path"`           // relative to the data directory or the tablespace, slash-separated
	Type    Type      `json:"type,omitempty"` // "" is a regular file
	Size    int64     `json:"size"`           // bytes
	Mode    uint32    `json:"mode"`           // permission bits
	ModTime time.Time `json:"mtime"`
	SHA256  *Sum      `json:"sha256,omitempty"` // of a regular file
	Link    string    `json:"link,omitempty"`   // where a symbolic link leads
}

// Type tells what an entry is.
type Type string

// The types of entries.
const (
	Regular Type = ""
	Dir     Type = "dir"
	Link    Type = "link"
)

// WriteTo writes the part's line.
func (p Part) WriteTo(w io.Writer) (int64, error) {
	line, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(append(line, '\n'))
	return int64(n), err
}

// ReadParts calls fn with each part of a list, in order. It returns fn's or r's
// error as it is, or one that wraps ErrDamaged if the list is not whole or names
// a path that leads out of its folder.
func ReadParts(r io.Reader, fn func(Part) error) error {
	src := &source{r: r}
	d := json.NewDecoder(src)
	for {
		var p Part
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if src.err != nil {
			return src.err
		}
		if err != nil {
			return fmt.Errorf("%w: list of files: %w", ErrDamaged, err)
		}
		if err := p.check(); err != nil {
			return fmt.Errorf("%w: list of files: part %q: %w", ErrDamaged, p.Name, err)
		}
		if err := fn(p); err != nil {
			return err
		}
	}
}

// source remembers why reading failed, which the decoder may word as its own.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (p Part) check() error {
	if p.Name == "" || strings.ContainsAny(p.Name, "/\\") || len(p.Files) > MaxPartFiles {
		return errors.New("it cannot be one")
	}
	for _, f := range p.Files {
		switch {
		case !local(f.Path):
			return fmt.Errorf("path %q", f.Path)
		case f.Size < 0 || f.Mode&^0o7777 != 0:
			return fmt.Errorf("%s: size %d, mode %o", f.Path, f.Size, f.Mode)
		case f.Type == Regular && f.SHA256 == nil:
			return fmt.Errorf("%s has no SHA-256", f.Path)
		case f.Type != Regular && f.Type != Dir && f.Type != Link:
			return fmt.Errorf("%s: type %q", f.Path, f.Type)
		}
	}
	return nil
}

// local reports whether the path stays below the folder that it is relative to.
func local(p string) bool {
	return p != "" && p == path.Clean(p) && p != ".." && !strings.HasPrefix(p, "../") && !path.IsAbs(p) && !strings.ContainsRune(p, 0)
}
