package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"time"

	"walship/internal/basebackup"
	"walship/internal/layout"
	"walship/transport"
	"walship/walname"
)

// Reader is an archive that is looked at. Its methods may be called concurrently
// and keep the promises of package transport.
type Reader interface {
	Head(ctx context.Context, name string, n int) (transport.Head, error)
	Open(ctx context.Context, name string) (transport.File, error)
	List(ctx context.Context, dir string, fn func(transport.FileInfo) error) error
}

// Inventory is what an archive holds of one cluster, as its folders tell it. Of
// the files themselves only walship.json, the histories, the manifests of base
// backups and the first bytes of one segment are read, so it vouches for no
// content. Its size depends on the number of gaps, timelines and backups, not on
// that of segments.
type Inventory struct {
	Cluster  layout.Cluster
	Identity layout.Identity
	Geometry walname.Geometry
	Version  string // of PostgreSQL, "" if it is not known

	Timelines []*Timeline // by increasing number; those with a history or any WAL
	Backups   []Backup    // by time; those without a manifest included
	Gaps      []Gap       // of all timelines, by timeline and place
	Refused   []Stray     // refused/, by name
	Temporary Strays      // tmp/
	Strays    Strays      // what does not belong where it lies
	Broken    []Broken    // files that cannot be what they should be, by name

	counted time.Time // Look.Since
}

// Timeline is what there is of one timeline. Count and what follows it are only
// of the files stored since Look.Since.
type Timeline struct {
	ID      walname.Timeline
	History *walname.History // nil: timeline 1, or its file is missing or broken
	Runs    []Run            // the segments, by place; between two runs some are missing

	Count       int64     // segments
	Stored      int64     // bytes, of the segments with what vouches for them
	First, Last time.Time // when the first and the last were stored, by the archive's clock; zero without any

	Partials []Stray // partial segments, by name
	Labels   []Stray // .backup files, by name
}

// Run is a row of segments without a gap, of one timeline.
type Run struct {
	First, Last walname.Segment
	Stored      time.Time // when the last was, by the archive's clock
}

// Gap is a row of missing segments, of which there are some before it and behind
// it on the way of recovery.
type Gap struct {
	First, Last walname.Segment
	Count       int64
}

// Stray is a file, named as it lies in its folder.
type Stray struct {
	Name    string
	Size    int64 // stored, bytes
	ModTime time.Time
}

// Strays are files that are only counted. Example is the name of one of them.
type Strays struct {
	Count   int64
	Size    int64     // bytes
	Oldest  time.Time // when the oldest was last written
	Example string
}

func (s *Strays) add(name string, e transport.FileInfo) {
	if s.Count == 0 || e.ModTime.Before(s.Oldest) {
		s.Oldest, s.Example = e.ModTime, name
	}
	s.Count++
	s.Size += e.Size
}

// Broken is a stored file that cannot be what it should be.
type Broken struct {
	Name string // from the root of the archive
	Why  string
}

// Look is what to look at and whom to tell.
type Look struct {
	// Since leaves what was stored before it out of counts, sums and Each, not
	// out of runs and gaps.
	Since time.Time

	// Each, if not nil, is told of every file of WAL, by timeline and place, from
	// one goroutine. Its error ends the look and is returned.
	Each func(StoredFile) error
}

// StoredFile is a file of WAL as it lies in the archive.
type StoredFile struct {
	Name    walname.Name // of another partial segment of one name: that name
	Stored  string       // from the root of the archive
	Size    int64        // stored, bytes
	ModTime time.Time
	Broken  string // why it cannot be whole, as far as a listing tells; "" if that tells nothing
}

// Take looks at what s holds of the cluster c. Without the cluster's own
// walship.json the error wraps ErrArchive: an absent folder is not an empty
// archive.
func Take(ctx context.Context, s Reader, c layout.Cluster, look Look) (*Inventory, error) {
	id, err := identify(ctx, s, c)
	if err != nil {
		return nil, err
	}
	t := &taker{Reader: s, look: look, byID: make(map[walname.Timeline]*Timeline), inv: &Inventory{
		Cluster: c, Identity: id, Geometry: walname.Geometry{SegmentSize: id.SegmentSize}, counted: look.Since,
	}}
	for _, step := range []func(context.Context) error{t.logs, t.version, t.histories, t.backups, t.others} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return t.finish(), nil
}

// identify reads the cluster's walship.json.
func identify(ctx context.Context, s Reader, c layout.Cluster) (layout.Identity, error) {
	head, err := s.Head(ctx, c.IdentityFile(), layout.MaxIdentitySize)
	if errors.Is(err, fs.ErrNotExist) {
		err = transport.WithHint(fmt.Errorf("%w: %s is missing: %v", ErrArchive, c.IdentityFile(), err),
			"is the disk mounted, and is the archive's URL right? a new archive is made by walship init, in the data directory")
	}
	if err != nil {
		return layout.Identity{}, err
	}
	id, err := layout.ParseIdentity(head.Data, c)
	if err != nil {
		return id, transport.WithHint(fmt.Errorf("%w: %w", ErrArchive, err), layout.IdentityHint)
	}
	return id, nil
}

// taker makes an Inventory.
type taker struct {
	Reader
	look Look
	inv  *Inventory
	byID map[walname.Timeline]*Timeline
	last string // where the last segment seen lies
}

func (t *taker) timeline(id walname.Timeline) *Timeline {
	tl := t.byID[id]
	if tl == nil {
		tl = &Timeline{ID: id}
		t.byID[id] = tl
	}
	return tl
}

func (t *taker) broken(name, format string, args ...any) {
	t.inv.Broken = append(t.inv.Broken, Broken{name, fmt.Sprintf(format, args...)})
}

func (t *taker) finish() *Inventory {
	inv := t.inv
	for _, tl := range t.byID {
		inv.Timelines = append(inv.Timelines, tl)
		if inv.Geometry.SkipFF {
			tl.Runs = joinSkipped(inv.Geometry, tl.Runs)
		}
	}
	sort.Slice(inv.Timelines, func(i, j int) bool { return inv.Timelines[i].ID < inv.Timelines[j].ID })
	sort.SliceStable(inv.Backups, func(i, j int) bool { return inv.Backups[i].ID.Time.Before(inv.Backups[j].ID.Time) })
	sort.Slice(inv.Refused, func(i, j int) bool { return inv.Refused[i].Name < inv.Refused[j].Name })
	sort.SliceStable(inv.Broken, func(i, j int) bool { return inv.Broken[i].Name < inv.Broken[j].Name })
	inv.Gaps = inv.gaps()
	return inv
}

// Timeline returns the timeline of that number, or nil.
func (inv *Inventory) Timeline(id walname.Timeline) *Timeline {
	for _, tl := range inv.Timelines {
		if tl.ID == id {
			return tl
		}
	}
	return nil
}

// Backup is a folder of a base backup.
type Backup struct {
	ID       basebackup.ID
	Manifest *basebackup.Manifest // nil: it is no backup, but what is left of one, or one in progress
	Damage   string               // why it cannot be restored, as far as its folder tells; "" if that tells nothing
	Files    int64                // stored files
	Stored   int64                // bytes of them
	Written  time.Time            // when the newest of them was stored, by the archive's clock
}

// Usable reports whether nothing that the folder tells is against it.
func (b Backup) Usable() bool { return b.Manifest != nil && b.Damage == "" }
