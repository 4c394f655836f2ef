package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"time"

	"walship/internal/basebackup"
	"walship/internal/fault"
	"walship/internal/stored"
	"walship/transport"
)

// upload is a file on its way into the archive. What is written to it is encoded
// and sent at once; nothing of it is kept.
type upload struct {
	to   *io.PipeWriter
	part *basebackup.Part // nil: the server's manifest

	done chan struct{} // closed when the fields below are set
	ref  basebackup.Ref
	err  error
}

// errBroken is what writes to an upload that has failed return; wait tells why.
var errBroken = errors.New("the upload has failed")

// upload begins to store a file, once there is room for one more on its way.
func (r *backupRun) upload(ctx context.Context, name string, part *basebackup.Part) (*upload, error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	from, to := io.Pipe()
	up := &upload{to: to, part: part, done: make(chan struct{})}
	go func() {
		defer close(up.done)
		defer func() { <-r.slots }()
		up.ref, up.err = r.put(ctx, name, r.as, from, func() { _ = from.CloseWithError(errBroken) })
		if up.err != nil {
			r.cancel(up.err)
			return
		}
		fault.At("backup.part-put")
	}()
	return up, nil
}

// end ends the content, with an error if it is not whole. It never wraps what
// readers take for the end of a file.
func (u *upload) end(err error) { _ = u.to.CloseWithError(err) }

// wait returns what has become of the upload.
func (u *upload) wait() (basebackup.Ref, error) {
	<-u.done
	return u.ref, u.err
}

// put stores content under name, with the extension of the form's codec. giveUp makes
// the reads of content end.
func (r *backupRun) put(ctx context.Context, name string, in form, content io.Reader, giveUp func()) (basebackup.Ref, error) {
	as := name + in.codec.Extension()
	r.note(as, -1)
	record := stored.Record{
		Name: name, SystemID: r.info.SystemID, SegmentSize: r.info.SegmentSize, Version: r.info.PostgreSQL, Time: time.Now(),
	}
	encoding := stored.Encode(content, in.codec, math.MaxInt64)
	var size int64
	err := r.Store.Put(ctx, r.path(as), transport.Source{Write: func(w io.WriterAt) error {
		m := &measured{to: w, failed: giveUp}
		err := encoding.WriteTo(m, record, stored.Seal{To: in.to})
		size = m.size
		return err
	}})
	if err != nil {
		giveUp()
		encoding.Stop()
		if errors.Is(err, fs.ErrExist) {
			r.disown(as)
			err = fmt.Errorf("%s is there already: another backup that began within the same second is being stored; run it again", r.path(as))
		}
		return basebackup.Ref{}, err
	}
	r.note(as, size)
	sum, n := encoding.Sum()
	return basebackup.Ref{Name: as, Size: n, StoredSize: size, SHA256: sum}, nil
}

// note remembers what lies in the archive under a name of this backup's.
func (r *backupRun) note(name string, size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[name] = size
}

// disown takes a name from those that are this backup's to remove.
func (r *backupRun) disown(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, name)
}

// measured counts the bytes of a file that is written from the front on, all
// but its head. A write that fails ends the content at once, however long the
// server takes for the rest.
type measured struct {
	to     io.WriterAt
	failed func()
	size   int64
}

func (m *measured) WriteAt(p []byte, off int64) (int, error) {
	n, err := m.to.WriteAt(p, off)
	if err != nil {
		m.failed()
	}
	m.size = max(m.size, off+int64(n))
	return n, err
}

// patience are the pauses between tries to store what is in memory: an archive
// that cannot be reached for a moment shall not cost a backup of hours.
func (b *Backuper) patience() []time.Duration {
	if b.pauses != nil {
		return b.pauses
	}
	return []time.Duration{time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second}
}

// putBytes stores a small file, and tries again while the archive cannot be
// reached.
func (r *backupRun) putBytes(ctx context.Context, name string, in form, data []byte) (basebackup.Ref, error) {
	pauses := r.patience()
	for try := 0; ; try++ {
		ref, err := r.put(ctx, name, in, bytes.NewReader(data), func() {})
		if try == len(pauses) || !errors.Is(err, transport.ErrUnreachable) {
			return ref, err
		}
		r.warn(fmt.Sprintf("%v; trying again in %s", err, pauses[try]))
		select {
		case <-time.After(pauses[try]):
		case <-ctx.Done():
			return ref, context.Cause(ctx)
		}
		// It may have been stored, and only the answer been lost. Its name is this
		// backup's own.
		gone := r.Store.Remove(ctx, r.path(name+in.codec.Extension()))
		if errors.Is(gone, fs.ErrPermission) { // an account that may only add
			_, gone = r.Store.Head(ctx, r.path(name+in.codec.Extension()), 0)
			if gone == nil {
				gone = fmt.Errorf("%w: %s may have been stored, and cannot be removed to be stored again", err, r.path(name+in.codec.Extension()))
			}
		}
		if gone != nil && !errors.Is(gone, fs.ErrNotExist) && !errors.Is(gone, transport.ErrUnreachable) {
			return ref, gone
		}
	}
}

// putConfig stores the configuration files from outside the data directory; nil
// if there are none.
func (r *backupRun) putConfig(ctx context.Context) (*basebackup.Ref, error) {
	if len(r.Config) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	for _, f := range r.Config {
		name := strings.TrimPrefix(f.Path, "/")
		if !fs.ValidPath(name) {
			r.warn(fmt.Sprintf("the configuration file %q is not saved: its path cannot be stored", f.Path))
			continue
		}
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(f.Mode & 0o7777),
			ModTime: r.info.Begin.Truncate(time.Second), Size: int64(len(f.Content))})
		if err == nil {
			_, err = t.Write(f.Content)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	ref, err := r.putBytes(ctx, basebackup.ConfigFile, r.as, b.Bytes())
	if err != nil {
		return nil, err
	}
	fault.At("backup.config-put")
	return &ref, nil
}
