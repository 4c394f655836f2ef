package pgrun

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// tail reads what a server writes into its log from its start on.
type tail struct {
	path    string
	offset  int64
	partial []byte // a line whose end has not been written yet
}

// maxLine bounds a line of a log; what is longer is cut up.
const maxLine = 64 << 10

// begin notes where the file ends now.
func (t *tail) begin(path string) {
	*t = tail{path: path}
	if info, err := os.Stat(path); err == nil {
		t.offset = info.Size()
	}
}

// lines calls fn with each line that has been written since the last call. With
// final also with a last one that has no end.
func (t *tail) lines(final bool, fn func(string)) error {
	f, err := os.Open(t.path)
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
