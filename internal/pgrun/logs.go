package pgrun

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"walship/internal/pgdata"
)

// logs reads what a server writes from its start on: into the file that its
// output goes to and, where its logging collector takes over, into the files of
// log_directory.
type logs struct {
	files  map[string]*tail
	folder string // of the collector; "" if it is not known
}

// tail is how far a file has been read.
type tail struct {
	offset  int64
	partial []byte // a line whose end has not been written yet
}

// maxLine bounds a line of a log; what is longer is cut up.
const maxLine = 64 << 10

// begin notes where the files end now.
func (l *logs) begin(path, data string) {
	l.files = make(map[string]*tail)
	l.skip(path)
	d, err := pgdata.Open(data)
	if err != nil {
		return
	}
	l.folder = filepath.Join(data, "log")
	if d.Version < 100000 {
		l.folder = filepath.Join(data, "pg_log")
	}
	if all, err := d.Settings(); err == nil {
		if set, ok := pgdata.Lookup(all, "log_directory"); ok && set.Value != "" {
			if l.folder = set.Value; !filepath.IsAbs(l.folder) {
				l.folder = filepath.Join(data, l.folder)
			}
		}
	}
	for _, path := range l.collected() {
		l.skip(path)
	}
}

func (l *logs) skip(path string) {
	t := &tail{}
	if info, err := os.Stat(path); err == nil {
		t.offset = info.Size()
	}
	l.files[path] = t
}

func (l *logs) collected() []string {
	if l.folder == "" {
		return nil
	}
	entries, err := os.ReadDir(l.folder)
	if err != nil {
		return nil // there is none
	}
	var paths []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			paths = append(paths, filepath.Join(l.folder, e.Name()))
		}
	}
	return paths
}

// lines calls fn with each line that has been written since the last call. With
// final also with a last one that has no end.
func (l *logs) lines(final bool, fn func(string)) error {
	for _, path := range l.collected() {
		if l.files[path] == nil {
			l.files[path] = &tail{}
		}
	}
	for path, t := range l.files {
		if err := t.read(path, final, fn); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (t *tail) read(path string, final bool, fn func(string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := f.ReadAt(buf, t.offset)
		t.offset += int64(n)
		t.partial = append(t.partial, buf[:n]...)
		for {
			line, rest, found := bytes.Cut(t.partial, []byte("\n"))
			if !found {
				break
			}
			fn(string(line))
			t.partial = rest
		}
		if len(t.partial) > maxLine || final && errors.Is(err, io.EOF) && len(t.partial) > 0 {
			fn(string(t.partial))
			t.partial = nil
		}
		if errors.Is(err, io.EOF) {
			t.partial = bytes.Clone(t.partial)
			return nil
		}
		if err != nil {
			return err
		}
	}
}
