package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"strings"

	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// judgeClone refuses the history file of a restored copy. A copy of production
// that keeps its archive_command is promoted and archives the history of a new
// timeline; production's standbys would then follow it. A real failover forks
// where the archive ends; a copy forks where it was restored to, while production
// has gone on: two or more segments of the parent timeline lie behind the fork.
func (p *Pusher) judgeClone(ctx context.Context, f *file, stem string) error {
	found, _, err := p.compare(ctx, f, p.lookup(ctx, f, stem), false)
	if err != nil || found == same {
		return err
	}
	h, err := f.history()
	if err != nil {
		return err
	}
	parent := h.Parent()
	newest, ok, err := p.newest(ctx, f.cluster, parent.Timeline)
	if err != nil || !ok {
		return err
	}
	fork := parent.SwitchSegment
	if parent.Exact() {
		fork = f.geometry.At(parent.Timeline, parent.Switch)
	}
	if f.geometry.Check(newest) != nil || f.geometry.Number(newest) < f.geometry.Number(fork)+2 {
		return nil
	}
	return transport.WithHint(
		fmt.Errorf("%w: timeline %d leaves timeline %d within %s, and the archive goes on to %s on the old one", ErrCloned, h.Timeline, parent.Timeline, fork, newest),
		"a restored copy must not archive here: set its archive_mode = off, or give it an archive of its own; if this server really is the new primary: walship push --no-clone-guard")
}

// newest is the last archived segment of a timeline. Of all the archive only
// the list of log folders and the last of them is read.
func (p *Pusher) newest(ctx context.Context, c layout.Cluster, tl walname.Timeline) (last walname.Segment, ok bool, err error) {
	var logs []string
	err = p.Store.List(ctx, c.WAL(), func(e transport.FileInfo) error {
		if e.IsDir && len(e.Name) == 16 && strings.HasPrefix(e.Name, tl.String()) {
			logs = append(logs, e.Name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return last, false, err
	}
	sort.Sort(sort.Reverse(sort.StringSlice(logs)))
	for _, log := range logs {
		err := p.Store.List(ctx, c.WAL()+"/"+log, func(e transport.FileInfo) error {
			n, isWAL := layout.ParseStored(e.Name, stored.Extensions(stored.Written()))
			if isWAL && n.Kind == walname.KindSegment && (!ok || n.Segment.Seg > last.Seg) {
				last, ok = n.Segment, true
			}
			return nil
		})
		if err != nil || ok {
			return last, ok, err
		}
	}
	return last, false, nil
}
