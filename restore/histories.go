package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"walship/internal/async"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// newerHistories are the histories of the timelines above the file's own: those
// in the data directory's WAL folder and those in the archive. Only a server
// that recovers needs them.
func (q *question) newerHistories(ctx context.Context) (newer, error) {
	if !q.recovering() {
		return newer{}, nil
	}
	known := make(map[walname.Timeline]bool)
	var all []walname.History
	local, err := q.Data.Histories()
	if err != nil {
		q.Warn(fmt.Sprintf("passed over: %v", err))
	}
	for _, h := range local {
		if h.Timeline > q.name.Timeline() {
			known[h.Timeline] = true
			all = append(all, h)
		}
	}
	own := async.Go(func() ([]string, error) { return q.listHistories(ctx) })
	flat, err := q.flatHistories(ctx)
	if err != nil {
		return newer{}, err
	}
	names, err := own.Wait()
	if err != nil {
		return newer{}, err
	}
	damaged := make(map[walname.Timeline]error)
	var of []walname.Timeline
	var reading []*async.Result[walname.History]
	for _, name := range names {
		n, _ := layout.ParseStored(path.Base(name), stored.Extensions(stored.Written()))
		if n.Timeline() > q.name.Timeline() && !known[n.Timeline()] {
			of = append(of, n.Timeline())
			reading = append(reading, async.Go(func() (walname.History, error) { return q.readHistory(ctx, name, n) }))
		}
	}
	for i, r := range reading {
		h, err := r.Wait()
		switch {
		case errors.Is(err, stored.ErrDamaged):
			damaged[of[i]] = err
		case err != nil:
			return newer{}, err
		default:
			all = append(all, h)
		}
	}
	for _, h := range flat {
		if !known[h.Timeline] {
			all = append(all, h)
		}
	}
	return newer{all, damaged}, nil
}

// newer are timelines above the one that was asked for.
type newer struct {
	histories []walname.History
	damaged   map[walname.Timeline]error // whose stored history file cannot be read
}

// listHistories names the stored history files of walship's own folder.
func (q *question) listHistories(ctx context.Context) ([]string, error) {
	if q.cluster.SystemID == 0 {
		return nil, nil
	}
	var names []string
	folder := q.cluster.Histories()
	err := q.Store.List(ctx, folder, func(e transport.FileInfo) error {
		n, ok := layout.ParseStored(e.Name, stored.Extensions(stored.Written()))
		if ok && n.Kind == walname.KindHistory {
			names = append(names, folder+"/"+e.Name)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a flat folder; whether it may be one, its identity says
	}
	return names, err
}

// flatHistories are the newer histories in a flat folder, which may hold a
// million files: it is not listed, the timelines are asked for one by one.
func (q *question) flatHistories(ctx context.Context) ([]walname.History, error) {
	var all []walname.History
	for tl := q.name.Timeline() + 1; ; tl++ {
		n := walname.Name{Kind: walname.KindHistory, Segment: walname.Segment{Timeline: tl}}
		var asked []*async.Result[walname.History]
		for _, codec := range stored.Foreign() {
			asked = append(asked, async.Go(func() (walname.History, error) { return q.readHistory(ctx, n.String()+codec.Extension(), n) }))
		}
		found := false
		var failed error
		for _, r := range asked {
			h, err := r.Wait()
			switch {
			case err == nil && !found:
				ours, err := q.ours()
				if err != nil {
					return nil, err
				}
				if !ours {
					return nil, nil
				}
				found = true
				all = append(all, h)
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				failed = err
			}
		}
		if !found {
			return all, failed
		}
	}
}

// readHistory reads a stored history file.
func (q *question) readHistory(ctx context.Context, stow string, n walname.Name) (walname.History, error) {
	remote, err := q.Store.Open(ctx, stow)
	if err != nil {
		return walname.History{}, err
	}
	defer remote.Close()
	content, err := stored.Decode(stored.Source(remote), remote.Size(), stored.CodecOf(stow), maxSmall, q.Keys)
	if err != nil {
		return walname.History{}, fmt.Errorf("%s: %w", stow, err)
	}
	defer content.Close()
	data, err := io.ReadAll(content)
	if err != nil {
		return walname.History{}, fmt.Errorf("%s: %w", stow, err)
	}
	if err := q.vouched(ctx, stow, content); err != nil {
		return walname.History{}, fmt.Errorf("%s: %w", stow, err)
	}
	if content.HasRecord && content.Record.Name != n.String() {
		return walname.History{}, fmt.Errorf("%s: %w: its record says that it is %q", stow, stored.ErrDamaged, content.Record.Name)
	}
	h, err := walname.ParseHistory(n.Timeline(), data)
	if err != nil {
		return h, fmt.Errorf("%s: %w: %w", stow, stored.ErrDamaged, err)
	}
	return h, nil
}
