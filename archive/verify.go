package archive

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// Verifier reads the archive of one cluster back and checks all that was
// promised of it. It changes nothing.
type Verifier struct {
	Store   Reader
	Cluster layout.Cluster

	// Keys open what is encrypted. Of files that they do not open it is checked that
	// these are what was stored; what they hold is not, and a warning says so.
	Keys *crypt.Keys

	HeaderCheck bool // compare the first page of segments with their names
	Jobs        int  // files that are read at once; at least 1
	Scope       Scope

	// Resume is what an earlier call with the same Scope had come to, nil to begin
	// at the beginning. Save, if not nil, is told now and then what this one has
	// come to; its error ends the call.
	Resume *Progress
	Save   func(*Progress) error

	// Begun, if not nil, is told once how many stored bytes are to be read, Read
	// of those that have been, from several goroutines.
	Begun func(bytes int64)
	Read  func(bytes int64)

	// For tests; the zero value stands for retryPauses.
	pauses []time.Duration
}

// Scope is what to check.
type Scope struct {
	Since   time.Time       // only what was stored since then, by the archive's clock; zero: no limit
	From    walname.Segment // only WAL from this place on, on every timeline, and backups that begin there; zero: no limit
	Sample  float64         // of WAL files and of parts of backups only this share, chosen at random; 0 stands for 1
	Seed    uint64          // of that choice
	WAL     bool
	Backups bool
}

// chosen reports whether a file belongs to the sample.
func (s Scope) chosen(name string) bool {
	if s.Sample == 0 || s.Sample >= 1 {
		return true
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", s.Seed, name) // a hash takes all
	// FNV mixes its last bytes badly.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x)/math.MaxUint64 < s.Sample
}

// Kind is the kind of a fault.
type Kind string

// The kinds of faults.
const (
	Damaged   Kind = "damaged"   // a file is not what it was when it was stored, or not what its name says
	Missing   Kind = "missing"   // a file, or a row of segments, that must be there
	Duplicate Kind = "duplicate" // a file that is stored twice
	Unknown   Kind = "unknown"   // a file that has no business where it lies
	Contrary  Kind = "contrary"  // files that contradict each other
)

// Fault is something that is not as promised.
type Fault struct {
	Kind  Kind   `json:"kind"`
	File  string `json:"file"` // from the root of the archive; of a row of segments the first
	What  string `json:"what"`
	Means string `json:"means"` // for recovery

	gap Gap // segments that are missing
}

// Verdict is what a call has found.
type Verdict struct {
	Faults   []Fault  // the first maxFaults of them, what they mean included, in the order of their files
	More     int64    // further ones
	Warnings []string // what is no fault, and should be known

	Files   int64 // that were read, those of the calls before included
	Bytes   int64 // stored bytes of them
	Skipped int64 // files that Scope has left out
	Backups int   // that were checked

	Inventory *Inventory
}

// maxFaults bounds the faults that are remembered.
const maxFaults = 10000

// retryPauses are waited before a file is read again after the connection broke.
var retryPauses = []time.Duration{time.Second, 3 * time.Second, 9 * time.Second}

// Progress is what a call has come to.
type Progress struct {
	Logs    string   `json:"wal_folder"` // the last folder of WAL that is done, and all before it
	Backups []string `json:"backups"`    // those that are done
	Others  bool     `json:"others"`     // histories and refused files are
	Faults  []Fault  `json:"faults"`
	More    int64    `json:"more_faults"`
	Files   int64    `json:"files"`
	Bytes   int64    `json:"bytes"`
	Skipped int64    `json:"skipped"`
	Shut    int64    `json:"unopened"` // encrypted files that the keys did not open
}

// Run reads and checks. The error is that of an archive that cannot be looked at:
// then there is no verdict. Faults are no error.
func (v *Verifier) Run(ctx context.Context) (*Verdict, error) {
	r := &verifying{Verifier: v, since: make(map[walname.Timeline]uint64)}
	if v.Resume != nil {
		r.state = *v.Resume
	}
	r.faults = slices.Clone(r.state.Faults)
	if err := r.measure(ctx); err != nil {
		return nil, err
	}
	for range max(v.Jobs, 1) {
		back := newReadBack(v.Store, r.inv, v.HeaderCheck)
		back.read, back.keys, back.shut = v.Read, v.Keys, r.unopened
		r.readers = append(r.readers, back)
	}
	defer func() {
		for _, back := range r.readers {
			back.close()
		}
	}()
	for _, step := range []func(context.Context) error{r.others, r.wal, r.backups, r.lookAgain} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	r.chain()
	return r.verdict(), nil
}

// verifying is one Run on its way.
type verifying struct {
	*Verifier
	inv     *Inventory
	readers []*readBack
	logs    []string // folders of WAL, in order
	since   map[walname.Timeline]uint64

	mu       sync.Mutex
	state    Progress
	faults   []Fault
	vanished int // files that were listed and were gone
	magic    int64
	magicOf  string
	warnings []string
}

// fault takes note of a fault.
func (r *verifying) fault(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, f)
	} else {
		r.state.More++
	}
}

// unopened takes note of an encrypted file that the keys did not open.
func (r *verifying) unopened() {
	r.mu.Lock()
	r.state.Shut++
	r.mu.Unlock()
}

func (r *verifying) warn(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, fmt.Sprintf(format, args...))
}

// save tells what has been done. The lock is held, or nothing else is going on.
func (r *verifying) save() error {
	if r.Save == nil {
		return nil
	}
	s := r.state
	s.Faults = r.faults
	return r.Save(&s)
}

// wanted reports whether the file is to be read.
func (r *verifying) wanted(f StoredFile) bool {
	s := r.Scope
	switch {
	case !s.Since.IsZero() && f.ModTime.Before(s.Since):
		return false
	case s.From != (walname.Segment{}) && f.Name.Kind != walname.KindHistory && r.inv.Geometry.Number(f.Name.Segment) < r.inv.Geometry.Number(s.From):
		return false
	}
	return s.chosen(f.Stored)
}

// wantedBackup reports whether the backup is to be read.
func (r *verifying) wantedBackup(b Backup) bool {
	s, g := r.Scope, r.inv.Geometry
	return (s.Since.IsZero() || !b.Written.Before(s.Since)) && (s.From == (walname.Segment{}) || g.Number(b.ID.Start) >= g.Number(s.From))
}

// measure looks at the archive, and finds out how much there is to read.
func (r *verifying) measure(ctx context.Context) error {
	id, err := identify(ctx, r.Store, r.Cluster)
	if err != nil {
		return err
	}
	if id.Sealed() && r.Keys != nil {
		if _, err := r.Keys.Identities(); err != nil {
			return err
		}
	}
	r.inv = &Inventory{Geometry: walname.Geometry{SegmentSize: id.SegmentSize}} // enough to tell what is wanted
	if r.Scope.From != (walname.Segment{}) {
		if err := r.inv.Geometry.Check(r.Scope.From); err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	var bytes int64
	inv, err := Take(ctx, r.Store, r.Cluster, Look{Each: func(f StoredFile) error {
		if r.wanted(f) && (f.Name.Kind == walname.KindHistory || path.Base(path.Dir(f.Stored)) > r.state.Logs) && r.Scope.WAL {
			bytes += f.Size
		}
		// What lies before the first file that is of interest is no fault of today.
		if f.Name.Kind == walname.KindSegment && !f.ModTime.Before(r.Scope.Since) {
			n := r.inv.Geometry.Number(f.Name.Segment)
			if first, ok := r.since[f.Name.Timeline()]; !ok || n < first {
				r.since[f.Name.Timeline()] = n
			}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	r.inv = inv
	for _, b := range r.inv.Backups {
		if b.Manifest != nil && r.Scope.Backups && r.wantedBackup(b) && !slices.Contains(r.state.Backups, b.ID.String()) {
			bytes += int64(float64(b.Stored) * r.share())
		}
	}
	if r.Begun != nil {
		r.Begun(bytes)
	}
	return nil
}

func (r *verifying) share() float64 {
	if r.Scope.Sample == 0 {
		return 1
	}
	return min(r.Scope.Sample, 1)
}

// job is one file to be read.
type job func(ctx context.Context, back *readBack) error

// do runs jobs, as many at once as there are readers, until next has no more.
func (r *verifying) do(ctx context.Context, next func(give func(job) bool) error) error {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	g.Go(func() error {
		defer close(jobs)
		return next(func(j job) bool {
			select {
			case jobs <- j:
				return true
			case <-ctx.Done():
				return false
			}
		})
	})
	for _, back := range r.readers {
		g.Go(func() error {
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

// read calls one with a file that is to be read, and again after a connection
// that broke. It returns what is wrong with the file, which is not an error of
// the archive's; gone tells that the file is not there any more.
func (r *verifying) read(ctx context.Context, one func() error) (wrong error, gone bool, err error) {
	pauses := r.pauses
	if pauses == nil {
		pauses = retryPauses
	}
	for try := 0; ; try++ {
		err := one()
		switch {
		case err == nil:
			return nil, false, nil
		case ctx.Err() != nil:
			return nil, false, context.Cause(ctx)
		case errors.Is(err, crypt.ErrIdentity):
			return nil, false, err
		case errors.Is(err, stored.ErrDamaged), errors.Is(err, errMagic):
			return err, false, nil
		case errors.Is(err, fs.ErrNotExist):
			return err, true, nil
		case !lasting(err) && try < len(pauses):
			select {
			case <-time.After(pauses[try]):
				continue
			case <-ctx.Done():
				return nil, false, context.Cause(ctx)
			}
		case !lasting(err):
			return nil, false, err
		}
		return err, false, nil // this file cannot be read
	}
}

// lasting reports whether an error is about one file and not about the archive.
func lasting(err error) bool {
	for _, class := range []error{transport.ErrUnreachable, transport.ErrLogin, transport.ErrHostKey, transport.ErrConfig, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, class) {
			return false
		}
	}
	return true
}

// count takes note of a file that has been read.
func (r *verifying) count(size int64) {
	r.mu.Lock()
	r.state.Files++
	r.state.Bytes += size
	r.mu.Unlock()
}

// lookAgain lists the archive once more if files went while they were read: a
// prune may have removed them, and what it leaves is what counts.
func (r *verifying) lookAgain(ctx context.Context) error {
	if r.vanished == 0 {
		return nil
	}
	inv, err := Take(ctx, r.Store, r.Cluster, Look{})
	if err == nil {
		r.inv = inv
		r.warn("%d files went while they were to be read: is walship prune at work?", r.vanished)
	}
	return err
}

func (r *verifying) verdict() *Verdict {
	if r.magic > 0 {
		r.warn("the first page of %d segments has a magic that is not known, as of %s; the rest of it fits: is this walship older than the server?", r.magic, r.magicOf)
	}
	switch n := r.state.Shut; {
	case n > 0 && r.Keys == nil:
		r.warn("%s encrypted: they are what was stored, but what they hold was not checked, as no identity_file is set", numberedAre(n, "file"))
	case n > 0:
		r.warn("%s encrypted, and no key in %s opens them: they are what was stored, but what they hold was not checked", numberedAre(n, "file"), r.Keys.Path())
	}
	r.meanings()
	r.faults = once(r.faults)
	slices.SortStableFunc(r.faults, func(a, b Fault) int { return compareFiles(a.File, b.File) })
	return &Verdict{Faults: r.faults, More: r.state.More, Warnings: r.warnings, Files: r.state.Files, Bytes: r.state.Bytes,
		Skipped: r.state.Skipped, Backups: len(r.state.Backups), Inventory: r.inv}
}

func numberedAre(n int64, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

// once leaves out faults that were found twice, as where a call was broken off.
func once(faults []Fault) (all []Fault) {
	type key struct{ kind, file, what string }
	known := make(map[key]bool)
	for _, f := range faults {
		if k := (key{string(f.Kind), f.File, f.What}); !known[k] {
			known[k] = true
			all = append(all, f)
		}
	}
	return all
}

// compareFiles puts histories before WAL, and WAL before backups.
func compareFiles(a, b string) int {
	rank := func(name string) string {
		for i, dir := range []string{"/history/", "/wal/", "/base/"} {
			if strings.Contains(name, dir) {
				return fmt.Sprint(i) + name
			}
		}
		return "3" + name
	}
	switch ra, rb := rank(a), rank(b); {
	case ra < rb:
		return -1
	case ra > rb:
		return 1
	}
	return 0
}
