package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"walship/internal/async"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/internal/walpage"
	"walship/transport"
	"walship/walname"
)

// cluster is the one that the question is about: that of the data directory, or
// the only one in the archive.
func (f *Fetcher) cluster(ctx context.Context, r Request) (layout.Cluster, error) {
	if r.Data != nil {
		return layout.Cluster{SystemID: r.Data.Control.SystemID}, nil
	}
	var found []layout.Cluster
	err := f.Store.List(ctx, ".", func(e transport.FileInfo) error {
		if c, ok := layout.ParseFolder(e.Name); ok {
			found = append(found, c)
		}
		return nil
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return layout.Cluster{}, missingRoot(err)
	case err != nil:
		return layout.Cluster{}, err
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return layout.Cluster{}, nil // a flat folder names no cluster
	}
	var ids []string
	for _, c := range found {
		ids = append(ids, c.Folder())
	}
	return layout.Cluster{}, transport.WithHint(
		fmt.Errorf("%w: it holds %d clusters (%s), and there is no data directory to tell which one is meant", ErrArchive, len(found), strings.Join(ids, ", ")),
		"run walship in the data directory, or name it with -D or PGDATA")
}

func missingRoot(err error) error {
	return transport.WithHint(fmt.Errorf("%w: its folder does not exist: %w", ErrArchive, withoutClass(err)), "is the disk mounted?")
}

// withoutClass keeps an error's words and drops its class: an absent archive
// must never look like an absent file.
func withoutClass(err error) error { return errors.New(err.Error()) }

// identity reads the cluster's walship.json. fs.ErrNotExist means that there is
// none.
func (f *Fetcher) identity(ctx context.Context, c layout.Cluster) (layout.Identity, error) {
	if c.SystemID == 0 {
		return layout.Identity{}, fs.ErrNotExist
	}
	head, err := f.Store.Head(ctx, c.IdentityFile(), layout.MaxIdentitySize)
	if err != nil {
		return layout.Identity{}, err
	}
	id, err := layout.ParseIdentity(head.Data, c)
	if err != nil {
		return id, transport.WithHint(fmt.Errorf("%w: %w", ErrArchive, err), layout.IdentityHint)
	}
	return id, nil
}

// kept checks that the folder is there in which the file would lie below: an
// archive that has lost it cannot say what it holds.
func (q *question) kept(ctx context.Context) error {
	folder := q.cluster.WAL()
	if q.name.Kind == walname.KindHistory {
		folder = q.cluster.Histories()
	}
	err := q.Store.List(ctx, folder, func(transport.FileInfo) error { return fs.SkipAll })
	if errors.Is(err, fs.ErrNotExist) {
		return transport.WithHint(
			fmt.Errorf("%w: its folder %s is missing", ErrArchive, folder),
			"is a disk of its own mounted there, or was the folder moved away? for an archive that is to begin anew: walship init")
	}
	return err
}

// places lists where the file may lie: first walship's own, then the flat folder
// in which another tool began.
func (q *question) places() []string {
	var names []string
	if q.cluster.SystemID != 0 {
		for _, codec := range stored.Written() {
			names = append(names, q.cluster.Stem(q.name)+codec.Extension())
		}
	}
	for _, codec := range stored.Foreign() {
		names = append(names, q.name.String()+codec.Extension())
	}
	return names
}

// copies are the places of one file, all being opened at once.
type copies struct{ all []stow }

type stow struct {
	name string
	file *async.Result[transport.File]
}

// prefer puts the copy that is stored as the archive stores its files before the
// others: who can only add to an archive must not get between it and its reader
// with a copy under another extension.
func (c *copies) prefer(codec stored.Codec) {
	slices.SortStableFunc(c.all, func(a, b stow) int {
		rank := func(s stow) int {
			if !isFlat(s.name) && stored.CodecOf(s.name) == codec {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
}

func (q *question) open(ctx context.Context, names []string) *copies {
	c := &copies{}
	for _, name := range names {
		c.all = append(c.all, stow{name, async.Go(func() (transport.File, error) { return q.Store.Open(ctx, name) })})
	}
	return c
}

// close gives up what has been opened.
func (c *copies) close() {
	for _, s := range c.all {
		go func() {
			if remote, err := s.file.Wait(); err == nil {
				_ = remote.Close()
			}
		}()
	}
}

// flat decides whether the root is a folder that another tool fills with this
// cluster's WAL. Only such a one may say that a file is not there: an empty root
// may be a disk that is not mounted.
func (q *question) flat(ctx context.Context) error {
	if q.cluster.SystemID != 0 {
		// Where the cluster has a folder, nothing beside it speaks for the archive.
		err := q.Store.List(ctx, q.cluster.Folder(), func(transport.FileInfo) error { return fs.SkipAll })
		if err == nil {
			return fmt.Errorf("%w: %s is missing in it", ErrArchive, q.cluster.IdentityFile())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	segments, clusters, empty, err := q.look(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return missingRoot(err)
	case err != nil:
		return err
	case len(segments) > 0:
		return q.sameCluster(ctx, segments)
	}
	say := func(what, hint string) error {
		return transport.WithHint(fmt.Errorf("%w: %s", ErrArchive, what), hint)
	}
	switch {
	case empty:
		return say("its folder is empty", "is the disk mounted?")
	case len(clusters) > 0:
		return say(fmt.Sprintf("it holds cluster %s and nothing of cluster %d", strings.Join(clusters, ", "), q.cluster.SystemID),
			"does the archive setting name the right one, and is this the right data directory?")
	}
	return say(fmt.Sprintf("it holds neither %s nor WAL of another tool", q.cluster.IdentityFile()), "is the disk mounted, and does the archive setting name the right folder?")
}

// look lists the root: some of the segments that lie flat in it, the clusters'
// folders that it came across before it had enough of them, and whether there is
// anything at all.
func (q *question) look(ctx context.Context) (segments, clusters []string, empty bool, err error) {
	const enough = 8 // looked at, of perhaps a million
	empty = true
	err = q.Store.List(ctx, ".", func(e transport.FileInfo) error {
		empty = false
		if c, ok := layout.ParseFolder(e.Name); ok {
			clusters = append(clusters, c.Folder())
		}
		if n, ok := layout.ParseStored(e.Name, stored.Extensions(stored.Foreign())); ok && n.Kind == walname.KindSegment {
			if segments = append(segments, e.Name); len(segments) == enough {
				return fs.SkipAll
			}
		}
		return nil
	})
	return segments, clusters, empty, err
}

// isFlat reports whether the stored file lies in the root, where other tools
// put theirs.
func isFlat(name string) bool { return !strings.Contains(name, "/") }

// flatIsOurs reports whether the segments that lie flat in the root are this
// cluster's. Beside a cluster's own folder there may be those of another one,
// which was there before an initdb or a pg_upgrade.
func (q *question) flatIsOurs(ctx context.Context) (bool, error) {
	segments, _, _, err := q.look(ctx)
	if err != nil {
		return false, err
	}
	if len(segments) == 0 {
		return false, nil // nothing tells whose the rest is
	}
	err = q.sameCluster(ctx, segments)
	if errors.Is(err, errForeign) {
		return false, nil
	}
	return err == nil, err
}

// errForeign says that a flat folder is another cluster's.
var errForeign = errors.New("another cluster's")

// sameCluster checks the segments of a flat folder against the data directory.
// The first one whose header can be read speaks for the folder; a damaged one
// says nothing.
func (q *question) sameCluster(ctx context.Context, segments []string) error {
	if q.Data == nil || !q.HeaderCheck {
		return nil
	}
	why := errors.New("its header is not one of PostgreSQL's")
	for _, base := range segments {
		h, err := q.header(ctx, base)
		switch {
		case errors.Is(err, stored.ErrDamaged):
			why = err
		case err != nil:
			return err
		case h.Long && h.SystemID == q.cluster.SystemID:
			return nil
		case h.Long && h.Known():
			return transport.WithHint(
				fmt.Errorf("%w: %w: its %s is of cluster %d, this is cluster %d", ErrArchive, errForeign, base, h.SystemID, q.cluster.SystemID),
				"does the archive setting name the right folder, and is this the right data directory?")
		}
	}
	return fmt.Errorf("%w: none of its segments, such as %s, tells which cluster it is of: %w", ErrArchive, segments[len(segments)-1], why)
}

// header reads the header of a segment in a flat folder.
func (q *question) header(ctx context.Context, base string) (walpage.Header, error) {
	remote, err := q.Store.Open(ctx, base)
	if err != nil {
		return walpage.Header{}, err
	}
	defer remote.Close()
	content, err := stored.Decode(stored.Source(remote), remote.Size(), stored.CodecOf(base), walname.MaxSegmentSize, q.Keys)
	if err != nil {
		return walpage.Header{}, err
	}
	defer content.Close()
	page := make([]byte, walpage.MinLen)
	n, err := readFull(content, page)
	if err != nil {
		return walpage.Header{}, err
	}
	h, err := walpage.Parse(page[:n])
	if err != nil {
		return h, fmt.Errorf("%w: %w", stored.ErrDamaged, err)
	}
	return h, nil
}
