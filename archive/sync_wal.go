package archive

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"walship/internal/async"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// timelines are those of From, by number, with the folders of their WAL.
func (r *syncing) timelines(ctx context.Context) (logs map[walname.Timeline][]string, err error) {
	logs = make(map[walname.Timeline][]string)
	t := &taker{Reader: r.From}
	root := r.Cluster.WAL()
	entries, err := t.list(ctx, root)
	if err != nil {
		return nil, r.from(err)
	}
	for _, e := range entries {
		if s, ok := logFolder(e); ok {
			logs[s.Timeline] = append(logs[s.Timeline], path.Join(root, e.Name))
		}
	}
	if entries, err = t.list(ctx, r.Cluster.Histories()); err != nil {
		return nil, r.from(err)
	}
	var unread []walname.Timeline
	for _, e := range entries {
		f, ok := storedFile(path.Join(r.Cluster.Histories(), e.Name), e)
		if !ok || f.Name.Kind != walname.KindHistory {
			continue
		}
		if _, ok := logs[f.Name.Timeline()]; !ok {
			logs[f.Name.Timeline()] = nil
		}
		h, err := readHistory(ctx, r.From, f)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // the copying says so, and of damage as well
		case errors.Is(err, stored.ErrDamaged):
			r.damaged(f.Stored, err)
			r.unreadable[f.Stored] = true
			unread = append(unread, f.Name.Timeline())
			continue
		case err != nil:
			return nil, r.from(err)
		}
		r.forks(h)
	}
	for _, tl := range unread {
		if err := r.unread(ctx, tl, logs); err != nil {
			return nil, err
		}
	}
	return logs, nil
}

// forks takes note of where h leaves other timelines.
func (r *syncing) forks(h walname.History) {
	r.histories[h.Timeline] = h
	for _, a := range h.Ancestors {
		if first, ok := r.left[a.Timeline]; !ok || r.fork(a) < first {
			r.left[a.Timeline] = r.fork(a)
		}
	}
}

// isLeft reports whether another timeline has left the file's own at or before
// the end of its segment. Up to 9.2 a fork at the very end of a segment is
// recorded like one within it, and the segment comes late, which does no harm.
func (r *syncing) isLeft(f StoredFile) bool {
	at, ok := r.left[f.Name.Timeline()]
	return ok && r.inv.Geometry.Number(f.Name.Segment) >= at
}

// shelf is a folder as it was listed.
type shelf struct {
	dir      string
	entries  []transport.FileInfo
	stems    map[string]string          // stored base names by what they are without a codec's extension
	vouchers map[string]map[string]bool // digits of SHA-256s, by the base name of the plain file that they vouch for
}

func newShelf(dir string, entries []transport.FileInfo) *shelf {
	s := &shelf{dir: dir, stems: make(map[string]string), vouchers: make(map[string]map[string]bool)}
	for _, e := range entries {
		if e.IsDir {
			continue
		}
		if stem, ok := voucherOf(e.Name); ok {
			if s.vouchers[stem] == nil {
				s.vouchers[stem] = make(map[string]bool)
			}
			s.vouchers[stem][strings.TrimSuffix(e.Name[len(stem)+1:], ".sha256")] = true
			continue
		}
		s.entries = append(s.entries, e)
		s.stems[stemOf(e.Name)] = e.Name
	}
	return s
}

func stemOf(base string) string {
	return strings.TrimSuffix(base, stored.CodecOf(base).Extension())
}

// pair is a folder in both archives.
type pair struct{ from, to *shelf }

// pairs lists folders in both archives, several at once, and hands them to fn in
// order. A folder that is not there is empty.
func (r *syncing) pairs(ctx context.Context, dirs []string, fn func(pair) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	list := func(dir string) *async.Result[pair] {
		to := async.Go(func() ([]transport.FileInfo, error) { return (&taker{Reader: r.To}).list(ctx, dir) })
		return async.Go(func() (p pair, err error) {
			from, err := (&taker{Reader: r.From}).list(ctx, dir)
			if err != nil {
				return p, r.from(err)
			}
			there, err := to.Wait()
			return pair{newShelf(dir, from), newShelf(dir, there)}, r.to(err)
		})
	}
	var ahead []*async.Result[pair]
	for i, next := 0, 0; i < len(dirs); i++ {
		for ; next < len(dirs) && next < i+listAhead/2; next++ {
			ahead = append(ahead, list(dirs[next]))
		}
		p, err := ahead[0].Wait()
		ahead = ahead[1:]
		if err == nil {
			err = fn(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// measure is how many stored bytes are missing in To.
func (r *syncing) measure(ctx context.Context, timelines map[walname.Timeline][]string, backups []missingBackup) (missing int64, err error) {
	dirs := []string{r.Cluster.Histories(), r.Cluster.Refused()}
	for _, logs := range timelines {
		dirs = append(dirs, logs...)
	}
	err = r.pairs(ctx, dirs, func(p pair) error {
		for _, e := range p.from.entries {
			if _, there := p.to.stems[stemOf(e.Name)]; !there && !strings.HasSuffix(e.Name, ".damaged") {
				missing += e.Size
			}
		}
		return nil
	})
	for _, b := range backups {
		missing += max(b.Stored-b.bytes, 0)
	}
	return missing, err
}

// wal gives all WAL files, in the order that Syncer tells of.
func (r *syncing) wal(ctx context.Context, timelines map[walname.Timeline][]string, give func(syncJob) bool) error {
	var histories pair
	err := r.pairs(ctx, []string{r.Cluster.Histories()}, func(p pair) error { histories = p; return nil })
	if err != nil {
		return err
	}
	if !r.settle(give, histories) {
		return context.Cause(ctx)
	}
	if err := r.compareLate(ctx, timelines, give); err != nil {
		return err
	}
	var late []string // folders with files of a timeline that another has left
	for _, tl := range slices.Sorted(maps.Keys(timelines)) {
		for _, e := range histories.from.entries {
			f, ok := storedFile(path.Join(histories.from.dir, e.Name), e)
			if ok && f.Name.Kind == walname.KindHistory && f.Name.Timeline() == tl && !r.give(give, histories, f) {
				return context.Cause(ctx)
			}
		}
		err := r.pairs(ctx, timelines[tl], func(p pair) error {
			for _, f := range p.wal() {
				if r.isLeft(f) {
					late = append(late, p.from.dir)
					break // those behind it are, too
				}
				if !r.give(give, p, f) {
					return context.Cause(ctx)
				}
			}
			if !r.settle(give, p) {
				return context.Cause(ctx)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return r.pairs(ctx, late, func(p pair) error {
		for _, f := range p.wal() {
			if r.isLeft(f) && !r.compared[f.Stored] && !r.give(give, p, f) {
				return context.Cause(ctx)
			}
		}
		return nil
	})
}

// compareLate gives what both have of WAL that comes late to be compared: what is
// other content there holds back timelines whose turn comes before.
func (r *syncing) compareLate(ctx context.Context, timelines map[walname.Timeline][]string, give func(syncJob) bool) error {
	for _, tl := range slices.Sorted(maps.Keys(r.left)) {
		err := r.pairs(ctx, timelines[tl], func(p pair) error {
			for _, f := range p.wal() {
				if _, there := p.to.stems[stemOf(path.Base(f.Stored))]; !there || !r.isLeft(f) {
					continue
				}
				if !r.give(give, p, f) {
					return context.Cause(ctx)
				}
				r.compared[f.Stored] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wal are the files of WAL in From's folder, by place.
func (p pair) wal() (all []StoredFile) {
	for _, e := range p.from.entries {
		f, ok := storedFile(path.Join(p.from.dir, e.Name), e)
		if isWALFile(f, ok, path.Base(p.from.dir)) {
			all = append(all, f)
		}
	}
	return all
}

// aside gives the files that were set aside: push has to find in each archive
// what it may let pass. What was found damaged stays where it is.
func (r *syncing) aside(ctx context.Context, give func(syncJob) bool) error {
	return r.pairs(ctx, []string{r.Cluster.Refused()}, func(p pair) error {
		for _, e := range p.from.entries {
			if strings.HasSuffix(e.Name, ".damaged") {
				continue
			}
			if _, there := p.to.stems[stemOf(e.Name)]; there { // its name tells its content
				r.was(&r.done.There)
				continue
			}
			f := StoredFile{Stored: path.Join(p.from.dir, e.Name), Size: e.Size, ModTime: e.ModTime}
			if !give(func(ctx context.Context, back *readBack) error {
				return r.copy(ctx, back, p, f, nil, func() error { return back.aside(ctx, f) })
			}) {
				return context.Cause(ctx)
			}
		}
		if !r.settle(give, p) {
			return context.Cause(ctx)
		}
		return nil
	})
}

// give gives one file of WAL to be copied, or, where To has it, to be compared. No
// file is published before it is known of all those before it what became of them.
func (r *syncing) give(give func(syncJob) bool, p pair, f StoredFile) bool {
	there, isThere := p.to.stems[stemOf(path.Base(f.Stored))]
	before, done := r.before, make(chan struct{})
	r.before = done
	return give(func(ctx context.Context, back *readBack) (err error) {
		if isThere {
			err = r.compare(ctx, p, f, there)
		} else {
			err = r.copy(ctx, back, p, f, before, func() error { return r.check(ctx, back, f) })
		}
		if err == nil {
			err = await(ctx, before)
		}
		if err == nil { // else all ends, and nothing behind it may be published
			close(done)
		}
		return err
	})
}

// check reads one file of WAL, and tells what is wrong with it.
func (r *syncing) check(ctx context.Context, back *readBack, f StoredFile) error {
	if f.Name.Kind != walname.KindHistory && f.Name.Kind != walname.KindBackup {
		return back.wal(ctx, f)
	}
	text, err := back.small(ctx, f)
	if err == nil {
		err = fits(back, f, text)
	}
	return err
}
