package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"walship/internal/layout"
	"walship/transport"
	"walship/walname"
)

// SyncStore is the archive that is copied to, as far as copying needs it.
type SyncStore interface {
	Reader
	Put(ctx context.Context, name string, src transport.Source) error
	Mkdir(ctx context.Context, dir string) error
	MkdirRoot(ctx context.Context) error
	Sync(ctx context.Context, name string) error
}

// Syncer copies from one archive of a cluster into another what that one does not
// have: WAL, histories, labels, partial segments, what was set aside, and base
// backups. Files are copied byte for byte, and each is checked while it passes as
// a Verifier does: what is damaged is reported and not copied. Nothing is ever
// replaced or removed: other content under a name is reported.
//
// The order is such that what To holds can be restored whenever the copying ends:
//
//	walship.json      where To has none, as Init makes it
//	by timeline       its history, then its WAL, the oldest first, each file only
//	                  once those before it are on stable storage
//	what was left     WAL of a timeline behind the point at which another has left it
//	refused/          what was set aside
//	base backups      the newest first, of each the manifest last
//
// So To is at any moment like an archive that has been archived to up to some
// point, and a second run goes on where the first has ended. What lies behind other
// content, or needs a history that cannot be copied, is held back.
type Syncer struct {
	From             Reader
	To               SyncStore
	FromName, ToName string // what messages call them
	Cluster          layout.Cluster

	HeaderCheck bool // compare the first page of segments with their names
	Jobs        int  // files that are copied at once; at least 1
	DryRun      bool // only find out what would be copied
	Make        bool // make the cluster's part of To if it is not there
	Cleartext   bool // copy into an encrypted archive also what is not encrypted

	// Begun, if not nil, is told once how many stored bytes are to be copied, Read
	// of those that have been read, from several goroutines.
	Begun func(bytes int64)
	Read  func(bytes int64)

	// For tests; the zero value stands for retryPauses.
	pauses []time.Duration
}

// Synced is what a call has come to, or what one without DryRun would do.
type Synced struct {
	Made    bool  // the cluster's part of To
	Files   int64 // copied
	Bytes   int64 // stored bytes of them
	There   int64 // files that To had already, backups' files not among them
	Backups int   // copied; those that To had are not counted
	Gone    int64 // files that were removed from From meanwhile
	Held    int64 // files, and base backups, that were held back

	Faults []SyncFault    // the first maxFaults of them, in the order of their files
	More   int64          // further ones
	Kinds  map[Kind]int64 // how many there are of each kind, further ones included
}

// The kinds of faults that only copying finds.
const (
	Conflict  Kind = "conflict"  // a file that has other content in the other archive
	Cleartext Kind = "cleartext" // a file that is not encrypted, where all should be
)

// SyncFault is a file that was not copied, or is not what it should be.
type SyncFault struct {
	Kind    Kind   `json:"kind"` // Damaged, Conflict or Cleartext
	Archive string `json:"archive"`
	File    string `json:"file"` // from the root of the archive
	What    string `json:"what"`
	Means   string `json:"means"` // what to do about it
}

// Run copies. An error means that it has not come to its end, and that it can be
// run again; Synced, which is never nil, then tells how far it has come. Faults
// are no error: everything else has been copied, but for what was held back.
func (s *Syncer) Run(ctx context.Context) (*Synced, error) {
	r := &syncing{Syncer: s, before: make(chan struct{}), histories: make(map[walname.Timeline]walname.History),
		left: make(map[walname.Timeline]uint64), holds: make(map[walname.Timeline]uint64), lacks: make(map[walname.Segment]bool),
		compared: make(map[string]bool), unreadable: make(map[string]bool)}
	r.done.Kinds = make(map[Kind]int64)
	close(r.before)
	err := r.run(ctx)
	slices.SortStableFunc(r.done.Faults, func(a, b SyncFault) int { return compareFiles(a.File, b.File) })
	return &r.done, err
}

// syncing is one Run on its way.
type syncing struct {
	*Syncer
	inv        *Inventory                           // of From: its Identity and Geometry
	sealed     bool                                 // all in To is to be encrypted
	histories  map[walname.Timeline]walname.History // that could be read
	unreadable map[string]bool                      // stored histories of From that are damaged, and have been reported
	left       map[walname.Timeline]uint64          // the number of the segment where the first timeline leaves another
	compared   map[string]bool                      // files that were compared before their turn
	before     chan struct{}                        // closed when it is known what became of the last file that has to come in order

	mu    sync.Mutex
	done  Synced
	holds map[walname.Timeline]uint64 // from which segment's number on WAL is held back
	lacks map[walname.Segment]bool    // segments that were not copied
}

func (r *syncing) run(ctx context.Context) error {
	id, err := identify(ctx, r.From, r.Cluster)
	if err != nil {
		return r.from(err)
	}
	r.inv = &Inventory{Cluster: r.Cluster, Identity: id, Geometry: walname.Geometry{SegmentSize: id.SegmentSize}}
	there, err := identify(ctx, r.To, r.Cluster)
	switch {
	case err == nil && there.SegmentSize != id.SegmentSize:
		return r.to(fmt.Errorf("%w: its segments have %d bytes, those of %s %d", ErrArchive, there.SegmentSize, r.FromName, id.SegmentSize))
	case err == nil && there.Sealed() && !id.Sealed():
		return r.to(transport.WithHint(fmt.Errorf("%w: it is encrypted, and what %s holds is not", ErrArchive, r.FromName),
			"only an archive with recipients is copied to one that has some"))
	case err == nil:
	case errors.Is(err, layout.ErrIdentity) || !errors.Is(err, ErrArchive) || !r.Make:
		return r.to(err)
	default:
		r.done.Made, there = true, id
	}
	r.sealed = there.Sealed()
	// A backup that is finished now has its WAL in From, and so among what is copied.
	backups, err := r.missingBackups(ctx)
	if err != nil {
		return err
	}
	timelines, err := r.timelines(ctx)
	if err != nil {
		return err
	}
	if !r.DryRun {
		if r.Begun != nil {
			missing, err := r.measure(ctx, timelines, backups)
			if err != nil {
				return err
			}
			r.Begun(missing)
		}
		if err := r.make(ctx); err != nil {
			return r.to(err)
		}
	}
	if err := r.do(ctx, func(ctx context.Context, give func(syncJob) bool) error { return r.wal(ctx, timelines, give) }); err != nil {
		return err
	}
	if err := r.do(ctx, r.aside); err != nil {
		return err
	}
	return r.backups(ctx, backups)
}

// make makes the cluster's part of To. The identity is that of From, byte for
// byte; another call, or an Init, may have come first.
func (r *syncing) make(ctx context.Context) error {
	if !r.done.Made {
		return r.To.Sync(ctx, r.Cluster.IdentityFile()) // whoever made it may not have got there
	}
	head, err := r.From.Head(ctx, r.Cluster.IdentityFile(), layout.MaxIdentitySize)
	if err != nil {
		return r.from(err)
	}
	if err := r.To.MkdirRoot(ctx); err != nil {
		return err
	}
	for _, folder := range r.Cluster.Folders() {
		if err := r.To.Mkdir(ctx, folder); err != nil {
			return err
		}
	}
	err = r.To.Put(ctx, r.Cluster.IdentityFile(), bytesOf(head.Data))
	if errors.Is(err, fs.ErrExist) {
		r.done.Made = false
		_, err = identify(ctx, r.To, r.Cluster)
	}
	return err
}

func bytesOf(data []byte) transport.Source {
	return transport.Source{Write: func(w io.WriterAt) error {
		_, err := w.WriteAt(data, 0)
		return err
	}}
}

// sideError is an error that names its archive.
type sideError struct {
	name string
	error
}

func (e sideError) Error() string { return e.name + ": " + e.error.Error() }
func (e sideError) Unwrap() error { return e.error }

func (r *syncing) from(err error) error { return sided(r.FromName, err) }
func (r *syncing) to(err error) error   { return sided(r.ToName, err) }

func sided(name string, err error) error {
	if err == nil || errors.As(err, new(sideError)) {
		return err
	}
	return sideError{name, err}
}

// fault takes note of a fault.
func (r *syncing) fault(f SyncFault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done.Kinds[f.Kind]++
	if len(r.done.Faults) < maxFaults && (f.Kind != Cleartext || r.done.Kinds[Cleartext] <= maxFaults/2) {
		r.done.Faults = append(r.done.Faults, f)
	} else {
		r.done.More++
	}
}

// What to do about faults.
const (
	meansDamaged   = "it was not copied; where another archive has it whole, move this one away and copy it from there; walship verify says what is at stake"
	meansTorn      = "nothing is replaced: move it away there, and run walship sync again"
	meansConflict  = "two servers have archived under this name, and which of the two is right no program can tell; what follows it was held back: see docs/several-archives.md"
	meansOther     = "two servers have archived under this name, and which of the two is right no program can tell: see docs/several-archives.md"
	meansCleartext = "it was not copied; --cleartext copies it as it is"
)

func (r *syncing) damaged(file string, why error) {
	r.fault(SyncFault{Damaged, r.FromName, file, oneReason(why), meansDamaged})
}

func (r *syncing) torn(file string, why error) {
	r.fault(SyncFault{Damaged, r.ToName, file, oneReason(why), meansTorn})
}

// copied takes note of a file that has been copied, or would be.
func (r *syncing) copied(size int64) {
	r.mu.Lock()
	r.done.Files++
	r.done.Bytes += size
	r.mu.Unlock()
}

func (r *syncing) was(n *int64) {
	r.mu.Lock()
	*n++
	r.mu.Unlock()
}

// syncJob is one file to be copied or compared.
type syncJob func(ctx context.Context, back *readBack) error

// do runs jobs, as many at once as Jobs says, until next has no more.
func (r *syncing) do(ctx context.Context, next func(ctx context.Context, give func(syncJob) bool) error) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan syncJob)
	g.Go(func() error {
		defer close(jobs)
		return next(ctx, func(j syncJob) bool {
			select {
			case jobs <- j:
				return true
			case <-ctx.Done():
				return false
			}
		})
	})
	for range max(r.Jobs, 1) {
		g.Go(func() error {
			back := newReadBack(r.From, r.inv, r.HeaderCheck)
			back.read = r.Read
			defer back.close()
			for j := range jobs {
				if err := j(ctx, back); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// patiently calls one, and again after a connection that broke.
func (r *syncing) patiently(ctx context.Context, one func() error) error {
	pauses := r.pauses
	if pauses == nil {
		pauses = retryPauses
	}
	for try := 0; ; try++ {
		err := one()
		if err == nil || try == len(pauses) || !errors.Is(err, transport.ErrUnreachable) {
			return err
		}
		select {
		case <-time.After(pauses[try]):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isWALFile reports whether the entry is a file of WAL that belongs into the folder of
// that base name.
func isWALFile(f StoredFile, ok bool, folder string) bool {
	return ok && f.Name.Kind != walname.KindHistory && strings.HasPrefix(f.Name.Segment.String(), folder)
}
