package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"walship/internal/basebackup"
	"walship/internal/layout"
	"walship/transport"
)

// readers bounds what is asked of the archive at once.
const readers = 8

// ownCluster is the cluster that a restore is about, by its folder in the root,
// and what the archive says of itself.
func (r *Restorer) ownCluster(ctx context.Context, want uint64) (layout.Cluster, layout.Identity, error) {
	f := &Fetcher{Store: r.Store, Keys: r.Keys}
	c := layout.Cluster{SystemID: want}
	var found []string
	if want == 0 {
		err := r.Store.List(ctx, ".", func(e transport.FileInfo) error {
			if one, ok := layout.ParseFolder(e.Name); ok {
				c, found = one, append(found, one.Folder())
			}
			return nil
		})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return c, layout.Identity{}, missingRoot(err)
		case err != nil:
			return c, layout.Identity{}, err
		case len(found) == 0:
			return c, layout.Identity{}, transport.WithHint(fmt.Errorf("%w: it holds no cluster", ErrArchive), "is the disk mounted, and does the archive setting name the right folder?")
		case len(found) > 1:
			slices.Sort(found)
			return c, layout.Identity{}, transport.WithHint(
				fmt.Errorf("%w: it holds the clusters %s", ErrOptions, joinSome(found)), "say which one: --cluster "+found[0])
		}
	}
	id, err := f.identity(ctx, c)
	if errors.Is(err, fs.ErrNotExist) {
		return c, id, transport.WithHint(fmt.Errorf("%w: %s is missing in it", ErrArchive, c.IdentityFile()),
			"is the disk mounted, and does the archive setting name the right folder?")
	}
	return c, id, err
}

// backups are the cluster's, sorted by their names. A damaged one is passed over
// with a warning, unless it is the one that is asked for.
func (r *Restorer) backups(ctx context.Context, c layout.Cluster, id layout.Identity, asked string) ([]basebackup.Manifest, error) {
	var ids []basebackup.ID
	err := r.Store.List(ctx, basebackup.Root(c), func(e transport.FileInfo) error {
		if one, err := basebackup.ParseID(e.Name); err == nil && (asked == "" || asked == e.Name) {
			ids = append(ids, one)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.SortFunc(ids, func(a, b basebackup.ID) int { return strings.Compare(a.String(), b.String()) })

	type outcome struct {
		m   basebackup.Manifest
		err error
	}
	read := make([]outcome, len(ids))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, one := range ids {
		g.Go(func() error {
			m, err := r.manifest(gctx, c, one)
			if err == nil {
				err = checkManifest(m, c, id)
			}
			read[i] = outcome{m, err}
			if err != nil && !errors.Is(err, basebackup.ErrDamaged) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errFormat) {
				return fmt.Errorf("backup %s: %w", one, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var all []basebackup.Manifest
	for i, o := range read {
		switch {
		case o.err == nil:
			all = append(all, o.m)
		case asked != "" && errors.Is(o.err, fs.ErrNotExist):
			return nil, transport.WithHint(fmt.Errorf("%w: backup %s has no %s: it was never finished, or is being taken", ErrNoWay, ids[i], basebackup.ManifestFile), "take another one of the backups")
		case asked != "":
			return nil, fmt.Errorf("backup %s: %w", ids[i], o.err)
		case !errors.Is(o.err, fs.ErrNotExist):
			r.warn("backup %s is passed over: %v", ids[i], o.err)
		}
	}
	return all, nil
}

// errFormat is a manifest that this program is too old for.
var errFormat error = classed{ErrArchive, errors.New("it cannot be read")}

// manifest reads a backup's manifest. fs.ErrNotExist means that the backup was
// never finished.
func (r *Restorer) manifest(ctx context.Context, c layout.Cluster, id basebackup.ID) (basebackup.Manifest, error) {
	f, err := r.Store.Open(ctx, path.Join(basebackup.Folder(c, id), basebackup.ManifestFile))
	if err != nil {
		return basebackup.Manifest{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, basebackup.MaxManifestSize+1))
	if err != nil {
		return basebackup.Manifest{}, err
	}
	m, err := basebackup.ParseManifest(text, id)
	if err != nil {
		kind := errFormat
		if errors.Is(err, basebackup.ErrDamaged) {
			kind = basebackup.ErrDamaged
		}
		return m, fmt.Errorf("%s: %w", basebackup.ManifestFile, classed{kind, err})
	}
	return m, nil
}

// classed gives an error a class and keeps its words.
type classed struct {
	class error
	error
}

func (c classed) Unwrap() []error { return []error{c.class, c.error} }

// locally is an error of this machine's.
func locally(format string, args ...any) error { return classed{ErrLocal, fmt.Errorf(format, args...)} }

// checkManifest compares a manifest with the archive that it lies in.
func checkManifest(m basebackup.Manifest, c layout.Cluster, id layout.Identity) error {
	switch {
	case m.SystemID != c.SystemID:
		return fmt.Errorf("%w: its manifest is of cluster %d", basebackup.ErrDamaged, m.SystemID)
	case m.SegmentSize != id.SegmentSize:
		return fmt.Errorf("%w: its segments have %d bytes, those of this archive %d", basebackup.ErrDamaged, m.SegmentSize, id.SegmentSize)
	case len(m.Lists) == 0:
		return fmt.Errorf("%w: it has no list of files", basebackup.ErrDamaged)
	}
	for _, ref := range slices.Concat(m.Lists, refs(m.Config), refs(m.ServerManifest)) {
		if ref.Name == "" || path.Base(ref.Name) != ref.Name || ref.Size < 0 || ref.StoredSize < 0 {
			return fmt.Errorf("%w: its manifest names a file %q of %d bytes", basebackup.ErrDamaged, ref.Name, ref.Size)
		}
	}
	return nil
}

// refs is the optional reference as a list.
func refs(r *basebackup.Ref) []basebackup.Ref {
	if r == nil {
		return nil
	}
	return []basebackup.Ref{*r}
}

func (r *Restorer) warn(format string, args ...any) {
	if r.Warn != nil {
		r.Warn(fmt.Sprintf(format, args...))
	}
}

// joinSome lists the first few of many names.
func joinSome[T ~string](names []T) string {
	const most = 8
	text := ""
	for i, n := range names {
		if i == most {
			return fmt.Sprintf("%s and %d more", text, len(names)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += string(n)
	}
	return text
}
