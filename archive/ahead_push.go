package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/walname"
)

// pushed is what is known of a file that was published ahead.
type pushed struct {
	identity   identity
	sure       bool // the identity cannot be that of other content
	sum        [32]byte
	connection uint64
	at         time.Time
}

// is reports whether the file at path is the one that was pushed.
func (p pushed) is(path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	id, known := identityOf(info)
	if known && id != p.identity {
		return false, nil
	}
	if known && p.sure {
		return true, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sum, err := (&file{f: f, size: info.Size()}).sum()
	return err == nil && sum == p.sum, err
}

// confirms reports whether the archive is still this cluster's and holds what the
// job has published, by the archive's own record. The file at path is known to be
// the one that was pushed.
func (p *Pusher) confirms(ctx context.Context, data *pgdata.Dir, path string, j *early) bool {
	f, err := openFile(data, path, j.name.String())
	if err != nil {
		return false
	}
	defer f.close()
	f.known = &j.pushed.sum
	look := p.lookup(ctx, f, f.cluster.Stem(f.name))
	if _, err := look.form(); err != nil {
		return false
	}
	found, _, err := p.compare(ctx, f, look, false)
	return err == nil && found == same
}

// errNotAhead says that a file is the archiver's to hand over.
var errNotAhead = errors.New("not to be pushed ahead")

// pushAhead stores a segment that nobody has asked for yet, once it is its turn.
// Nil is Push's. Whatever is not plain sailing is an error and changes nothing
// in the archive: Push deals with it when the archiver hands the segment over.
func (p *Pusher) pushAhead(ctx context.Context, data *pgdata.Dir, n walname.Name, encoding *semaphore.Weighted, turn func() error) (done pushed, err error) {
	f, err := openFile(data, data.WALDir()+"/"+n.String(), n.String())
	if err != nil {
		return done, err
	}
	defer f.close()
	if data.Version < 90500 { // see filed
		if histories, err := data.Histories(); err != nil || len(histories) > 0 {
			return done, errNotAhead
		}
	}
	if err := f.check(p.HeaderCheck, p.Warn); err != nil {
		return done, err
	}
	// The memory is taken before the file is read, and given back when it has
	// gone out, not when it is published.
	if err := encoding.Acquire(ctx, 1); err != nil {
		return done, err
	}
	release := sync.OnceFunc(func() { encoding.Release(1) })
	defer release()

	began := time.Now()
	if done.identity, done.sure, err = f.identityNow(began); err != nil {
		return done, err
	}
	confirm := func() error {
		release()
		if err := turn(); err != nil {
			return err
		}
		return f.still(done.identity)
	}
	stem := f.cluster.Stem(f.name)
	look := p.lookup(ctx, f, stem)
	as, err := look.form()
	if err != nil {
		return done, err
	}
	switch err := look.absent(); {
	case errors.Is(err, errFound):
		found, theirs, err := p.compare(ctx, f, look, false)
		if err != nil || found != same {
			return done, errors.Join(errNotAhead, err)
		}
		done.sum = theirs
		return done, nil
	case err != nil:
		return done, err
	}
	if as.codec == stored.Plain {
		if err := p.vouch(ctx, f, stem, look); err != nil {
			return done, err
		}
	}
	if done.sum, err = p.put(ctx, f, stem, as, look, confirm); err != nil {
		return done, err
	}
	// What changed while it was read is not what the archive has.
	if after, _, err := f.identityNow(began); err != nil || after != done.identity {
		return done, errNotAhead
	}
	return done, nil
}

// still checks that what lies at the file's path is what was read: a server may
// have been set back in the meantime.
func (f *file) still(was identity) error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotAhead, err)
	}
	if id, known := identityOf(info); known && id != was {
		return errNotAhead
	}
	return nil
}

// identityNow is the open file's identity. sure means that it was last changed
// long enough before now for a later change to have another time.
func (f *file) identityNow(now time.Time) (id identity, sure bool, err error) {
	info, err := f.f.Stat()
	if err != nil {
		return id, false, fmt.Errorf("%w: %w", ErrLocal, err)
	}
	id, known := identityOf(info)
	grain := 100 * time.Millisecond
	if id.changed.Nanosecond() == 0 { // a file system that counts in seconds, or in two of them
		grain = 3 * time.Second
	}
	return id, known && now.Sub(id.changed) > grain, nil
}
