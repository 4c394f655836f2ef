package archive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"walship/internal/fault"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// sweepEvery and sweepAge: with every so many segments, temporary files that
// broken pushes have left are removed once they are a day old.
const (
	sweepEvery = 16
	sweepAge   = 24 * time.Hour
)

// Push stores the WAL file at the path file under name. Nil means that this very content
// is in the archive, on stable storage, whoever brought it there. data is the
// data directory that the file belongs to; nil if it is not known, which is
// enough for segments, as they name their cluster themselves.
//
// What honest servers push and yet cannot be stored under its name is stored
// elsewhere, with a warning: see filed.
func (p *Pusher) Push(ctx context.Context, data *pgdata.Dir, file, name string) error {
	f, err := openFile(data, file, name)
	if err != nil {
		return err
	}
	defer f.close()

	filed, err := p.filed(ctx, f)
	if filed || err != nil {
		return err
	}
	if err := f.check(p.HeaderCheck, p.Warn); err != nil {
		return p.unlessSetAside(ctx, f, err)
	}
	stem := f.cluster.Stem(f.name)
	if f.name.Kind == walname.KindHistory && p.CloneGuard {
		switch err := p.guardClone(ctx, f, stem); {
		case errors.Is(err, ErrCloned):
			return p.unlessSetAside(ctx, f, err)
		case err != nil:
			return err
		}
	}
	if f.name.Kind == walname.KindPartial {
		return p.storePartial(ctx, f)
	}
	_, err = p.store(ctx, f, stem)
	if errors.Is(err, ErrConflict) {
		return p.unlessSetAside(ctx, f, err)
	}
	if err == nil {
		p.sweep(ctx, f.cluster, f.name)
	}
	return err
}

// sweep removes what broken pushes have left, with some of the segments.
func (p *Pusher) sweep(ctx context.Context, c layout.Cluster, n walname.Name) {
	if n.Kind == walname.KindSegment && n.Segment.Seg%sweepEvery == 0 {
		_, _ = p.Store.Sweep(ctx, c.Tmp(), sweepAge) // the next one does what this cannot
	}
}

// storePartial stores a partial segment, beside another one of its name if
// their contents differ.
func (p *Pusher) storePartial(ctx context.Context, f *file) error {
	_, err := p.store(ctx, f, f.cluster.Stem(f.name))
	if !errors.Is(err, ErrConflict) {
		return err
	}
	sum, serr := f.sum()
	if serr != nil {
		return serr
	}
	kept, err := p.store(ctx, f, f.cluster.OtherPartial(f.name, sum))
	if err != nil {
		return err
	}
	p.Warn(fmt.Sprintf("another %s is archived already, as after two promotions within one segment; this one is kept as %s", f.name, kept))
	return nil
}

// attempts bounds how often store starts again: for another codec, a damaged
// file that was moved away, a writer that came first.
const attempts = 5

// store puts the content under stem, with the extension of the archive's codec.
// An error wraps ErrConflict if other content is there.
func (p *Pusher) store(ctx context.Context, f *file, stem string) (storedAs string, err error) {
	codec := p.Codec
	for range attempts {
		look := p.lookup(ctx, f, stem)
		if codec == stored.Plain {
			if err = p.vouch(ctx, f, stem, look); err != nil && !errors.Is(err, errFound) {
				if owner := look.owner(codec); owner != nil && !errors.As(owner, new(errCodec)) {
					return "", owner
				}
				return "", err
			}
		}
		_, err = p.put(ctx, f, stem, codec, look, nil)
		if err == nil {
			return stem + codec.Extension(), nil
		}
		// An archive that does not know the cluster explains every other failure.
		var guess errCodec
		switch owner := look.owner(codec); {
		case errors.As(owner, &guess):
			codec = guess.codec
			continue
		case owner != nil:
			return "", owner
		}
		if !errors.Is(err, errFound) && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		if errors.Is(err, fs.ErrExist) { // since it was looked for
			look = p.lookup(ctx, f, stem)
		}
		found, theirs, err := p.compare(ctx, f, look, true)
		switch {
		case err != nil:
			return "", err
		case found == same, found == other && fault.Skip("push.compare"):
			return stem + codec.Extension(), nil
		case found == other:
			return "", f.conflict(theirs)
		}
	}
	return "", fmt.Errorf("storing %s did not come to an end: %w", f.name, err)
}

// put stores the content under stem with the codec's extension, unless the
// lookup finds a file there. turn, if not nil, is waited for before the content,
// which is on stable storage by then, is published. It returns the content's SHA-256.
func (p *Pusher) put(ctx context.Context, f *file, stem string, codec stored.Codec, look *lookup, turn func() error) (sum [32]byte, err error) {
	content := stored.Encode(f.source(), codec, f.size)
	defer content.Stop()
	err = p.Store.Put(ctx, stem+codec.Extension(), transport.Source{
		Write: func(w io.WriterAt) error {
			if err := look.absent(); err != nil {
				return err
			}
			if err := content.WriteTo(w, f.record()); err != nil {
				return err
			}
			var n int64
			if sum, n = content.Sum(); n != f.size { // what was checked is not what was read
				return fmt.Errorf("%w: %s has become shorter while it was read: %d bytes of %d", ErrLocal, f.path, n, f.size)
			}
			return nil
		},
		Confirm: func() error {
			if err := look.owner(codec); err != nil || turn == nil {
				return err
			}
			return turn()
		},
	})
	return sum, err
}

// vouch stores, beside content that is stored plain, the file that vouches for
// it, in the form that sha256sum -c reads. It is there before the content is.
func (p *Pusher) vouch(ctx context.Context, f *file, stem string, look *lookup) error {
	sum, err := f.sum()
	if err != nil {
		return err
	}
	err = p.Store.Put(ctx, layout.Voucher(stem, sum), transport.Source{
		Write: func(w io.WriterAt) error {
			if err := look.absent(); err != nil {
				return err
			}
			_, err := w.WriteAt(fmt.Appendf(nil, "%x  %s\n", sum, path.Base(stem)), 0)
			return err
		},
		Confirm: func() error { return look.owner(stored.Plain) },
	})
	if errors.Is(err, fs.ErrExist) || errors.As(err, new(errCodec)) {
		return nil
	}
	return err
}

// conflict words that other content is archived under the name.
func (f *file) conflict(theirs [32]byte) error {
	ours, err := f.sum()
	if err != nil {
		return err
	}
	likely := "another server archives here too: a second primary, or a restored copy with its archive_command left on"
	switch {
	case f.name.Kind == walname.KindHistory:
		likely = "two servers were promoted to the same timeline, or a restored copy kept its archive_command"
	case f.name.Kind == walname.KindSegment && f.data != nil && f.data.Version < 90500:
		likely = "before PostgreSQL 9.5 a promoted standby and the old primary both archive the last segment of the old timeline, or another server archives here too"
	}
	return transport.WithHint(
		fmt.Errorf("%w: %s is archived with other content: SHA-256 %x there, %x here", ErrConflict, f.name, theirs, ours),
		likely+"; when it is clear that this file is not needed: walship set-aside "+f.name.String())
}

// recorded reports whether the stored file has the record of a whole one.
func (p *Pusher) recorded(ctx context.Context, f *file, name string) bool {
	head, err := p.Store.Head(ctx, name, stored.HeadSize)
	if err != nil {
		return false
	}
	r, err := stored.ParseHead(head.Data, head.Size)
	return err == nil && r.Name == f.name.String() && r.SystemID == f.cluster.SystemID
}

// moveDamaged moves a stored file that was found damaged out of the way.
func (p *Pusher) moveDamaged(ctx context.Context, f *file, name string, why error) error {
	var random [4]byte
	rand.Read(random[:])
	to := f.cluster.Damaged(name, hex.EncodeToString(random[:]))
	if err := p.Store.Mkdir(ctx, f.cluster.Refused()); err != nil {
		return err
	}
	switch err := p.Store.Move(ctx, name, to); {
	case errors.Is(err, fs.ErrNotExist):
		return nil // another pusher came first
	case err != nil:
		return fmt.Errorf("%s: %w; moving it away failed: %w", name, why, err)
	}
	// Another pusher may have put it right since it was looked at.
	if p.recorded(ctx, f, to) {
		if err := p.Store.Move(ctx, to, name); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is sound and was moved to %s; moving it back failed: %w", name, to, err)
		}
		return nil
	}
	p.Warn(fmt.Sprintf("%s: %v; it was moved to %s and is stored anew", name, why, to))
	return nil
}
