package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"

	"walship/internal/fault"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// copy copies one stored file. check reads it back from From and tells what is
// wrong with it; on the way the bytes go into To, where they are published only
// if nothing is, and not before the channel before is closed.
func (r *syncing) copy(ctx context.Context, back *readBack, p pair, f StoredFile, before <-chan struct{}, check func() error) error {
	if r.DryRun {
		if err := await(ctx, before); err != nil {
			return err
		}
	}
	switch {
	case r.isHeld(f): // what is read yet may hold it back as well
		return r.notCopied(f, errHeld)
	case r.isBareFile(f):
		return r.notCopied(f, errBare)
	case r.unreadable[f.Stored]:
		return r.notCopied(f, errTold)
	case r.DryRun:
		r.copied(f.Size)
		return nil
	}
	var wrong error // with what is read
	err := r.patiently(ctx, func() error {
		wrong = nil
		if err := r.vouchers(ctx, p, path.Base(f.Stored)); err != nil {
			return err
		}
		err := r.To.Put(ctx, f.Stored, transport.Source{
			Write: func(w io.WriterAt) (err error) {
				wrong, err = r.through(ctx, back, w, check)
				return cmp.Or(err, wrong)
			},
			Confirm: func() error {
				if err := await(ctx, before); err != nil {
					return err
				}
				if r.isHeld(f) {
					return errHeld
				}
				return nil
			},
		})
		if wrong != nil {
			return wrong
		}
		return r.to(err)
	})
	switch {
	case err == nil:
		fault.At("sync.copied")
		r.copied(f.Size)
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errHeld):
		return r.notCopied(f, errHeld)
	case wrong != nil && (lasting(wrong) || errors.Is(wrong, fs.ErrNotExist)):
		return r.notCopied(f, wrong)
	case wrong != nil:
		return r.from(fmt.Errorf("%s: %w", f.Stored, wrong))
	case errors.Is(err, fs.ErrExist): // since the folder was listed
		return r.compareNow(ctx, f)
	}
	return fmt.Errorf("%s: %w", f.Stored, err)
}

// notCopied takes note of why a file was not copied.
func (r *syncing) notCopied(f StoredFile, why error) error {
	if f.Name.Kind == walname.KindSegment {
		r.mu.Lock()
		r.lacks[f.Name.Segment] = true
		r.mu.Unlock()
	}
	switch {
	case errors.Is(why, errHeld):
		r.was(&r.done.Held)
		return nil
	case errors.Is(why, fs.ErrNotExist):
		r.was(&r.done.Gone)
		return nil
	case errors.Is(why, errBare):
		r.bare(f.Stored)
	case errors.Is(why, errTold):
	default:
		r.damaged(f.Stored, why)
	}
	if f.Name.Kind == walname.KindHistory && !r.knows(f.Name.Timeline()) {
		r.holdBehind(f)
	}
	return nil
}

// await waits for a file that has to be stored before.
func await(ctx context.Context, before <-chan struct{}) error {
	if before == nil {
		return nil
	}
	select {
	case <-before:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// through reads a file with check, and writes what is read to w, to its end. wrong
// is an error with what is read, err one with the writing.
func (r *syncing) through(ctx context.Context, back *readBack, w io.WriterAt, check func() error) (wrong, err error) {
	tee := &teeStore{Reader: r.From, to: w}
	defer tee.close()
	back.store = tee
	defer func() { back.store = r.From }()
	wrong = check()
	if wrong == nil || errors.Is(wrong, errMagic) {
		wrong = tee.end()
	}
	if tee.err != nil {
		return nil, tee.err
	}
	return wrong, nil
}

// teeStore is an archive of which one file is read, and written elsewhere on the
// way.
type teeStore struct {
	Reader
	to   io.WriterAt
	file transport.File
	at   int64
	err  error // of the writing
}

// Open opens the file. What reads it may leave it before its end, and closes it;
// end reads the rest.
func (t *teeStore) Open(ctx context.Context, name string) (transport.File, error) {
	file, err := t.Reader.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	t.close() // of a first try: a file that turned out to be encrypted is read once more
	t.file, t.at = file, 0
	return t, nil
}

func (t *teeStore) Size() int64  { return t.file.Size() }
func (t *teeStore) Close() error { return nil }

func (t *teeStore) close() {
	if t.file != nil {
		_ = t.file.Close()
	}
}

func (t *teeStore) Read(p []byte) (int, error) {
	n, err := t.file.Read(p)
	if n > 0 {
		if _, werr := t.to.WriteAt(p[:n], t.at); werr != nil {
			t.err = werr
			return 0, werr
		}
		t.at += int64(n)
	}
	return n, err
}

// end is nil if the file has been written whole.
func (t *teeStore) end() error {
	if _, err := io.Copy(io.Discard, struct{ io.Reader }{t}); err != nil {
		return err
	}
	if t.at != t.file.Size() {
		return fmt.Errorf("%w: it had %d bytes when it was opened, and %d could be read", stored.ErrDamaged, t.file.Size(), t.at)
	}
	return nil
}

// vouchers copies what vouches for a file that is stored plain: it is there
// before the file is.
func (r *syncing) vouchers(ctx context.Context, p pair, base string) error {
	if stored.CodecOf(base) != stored.Plain {
		return nil
	}
	for _, sum := range slices.Sorted(maps.Keys(p.from.vouchers[base])) {
		if p.to.vouchers[base][sum] {
			continue
		}
		name := path.Join(p.from.dir, base+"."+sum+".sha256")
		err := r.To.Put(ctx, name, bytesOf(fmt.Appendf(nil, "%s  %s\n", sum, base)))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return r.to(err)
		}
	}
	return nil
}

// compare compares a file that both archives have, by what their records or what
// vouches for them says.
func (r *syncing) compare(ctx context.Context, p pair, f StoredFile, there string) error {
	name := path.Join(p.to.dir, there)
	ours, err := r.sums(ctx, r.From, f, f.Stored, p.from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.was(&r.done.Gone)
		return nil
	case errors.Is(err, stored.ErrDamaged):
		if !r.unreadable[f.Stored] {
			r.damaged(f.Stored, err)
		}
		return nil
	case err != nil:
		return r.from(fmt.Errorf("%s: %w", f.Stored, err))
	}
	theirs, err := r.sums(ctx, r.To, f, name, p.to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // a prune's
	case errors.Is(err, stored.ErrDamaged):
		r.torn(name, err)
		return nil
	case err != nil:
		return r.to(fmt.Errorf("%s: %w", name, err))
	}
	for sum := range ours {
		if theirs[sum] {
			r.was(&r.done.There)
			return nil
		}
	}
	one := func(sums map[string]bool) string { return slices.Sorted(maps.Keys(sums))[0] }
	means := meansOther
	if f.Name.Kind == walname.KindSegment || f.Name.Kind == walname.KindHistory {
		means = meansConflict
	}
	r.fault(SyncFault{Conflict, r.ToName, name, fmt.Sprintf("%s has SHA-256 %s there, %s in %s", f.Name, one(theirs), one(ours), r.FromName), means})
	r.holdBehind(f)
	return nil
}

// compareNow is compare with the folder listed anew.
func (r *syncing) compareNow(ctx context.Context, f StoredFile) error {
	return r.pairs(ctx, []string{path.Dir(f.Stored)}, func(p pair) error {
		there, ok := p.to.stems[stemOf(path.Base(f.Stored))]
		if !ok {
			return r.to(fmt.Errorf("%s was there, and is not any more", f.Stored))
		}
		if f.Name == (walname.Name{}) { // set aside: its name tells its content
			r.was(&r.done.There)
			return nil
		}
		return r.compare(ctx, p, f, there)
	})
}

// sums are the SHA-256 that a stored file may have: of a plain one what is vouched
// for. Where more than one is, only its content tells which one it has.
func (r *syncing) sums(ctx context.Context, s Reader, f StoredFile, name string, in *shelf) (map[string]bool, error) {
	base := path.Base(name)
	if stored.CodecOf(base) == stored.Plain {
		head, err := s.Head(ctx, name, 0)
		if err != nil {
			return nil, err
		}
		segment := f.Name.Kind == walname.KindSegment || f.Name.Kind == walname.KindPartial
		switch {
		case head.Size == 0 || segment && head.Size != r.inv.Identity.SegmentSize:
			return nil, fmt.Errorf("%w: it has %d bytes", stored.ErrDamaged, head.Size)
		case len(in.vouchers[base]) == 0:
			return nil, fmt.Errorf("%w: nothing vouches for it", stored.ErrDamaged)
		case len(in.vouchers[base]) == 1:
			return in.vouchers[base], nil
		}
		sum, err := contentSum(ctx, s, name)
		if err == nil && !in.vouchers[base][sum] {
			err = fmt.Errorf("%w: nothing vouches for what it holds", stored.ErrDamaged)
		}
		return map[string]bool{sum: true}, err
	}
	head, err := s.Head(ctx, name, stored.HeadSize)
	if err != nil {
		return nil, err
	}
	record, err := stored.ParseHead(head.Data, head.Size)
	switch {
	case errors.Is(err, stored.ErrNoRecord):
		return nil, fmt.Errorf("%w: it carries no record", stored.ErrDamaged)
	case err != nil:
		return nil, err
	case record.Name != f.Name.String() || record.SystemID != r.Cluster.SystemID:
		return nil, fmt.Errorf("%w: its record says that it is %s of cluster %d", stored.ErrDamaged, record.Name, record.SystemID)
	}
	return map[string]bool{fmt.Sprintf("%x", record.SHA256): true}, nil
}

// contentSum reads a plain file.
func contentSum(ctx context.Context, s Reader, name string) (digits string, err error) {
	file, err := s.Open(ctx, name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, struct{ io.Reader }{file}); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
