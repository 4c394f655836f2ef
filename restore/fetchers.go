package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// Fetchers fetch from several archives of one cluster. There is at least one, and
// all have the same settings. They may be used concurrently.
type Fetchers []*Fetcher

// patience is Fetcher.Patience, if that is 0: long enough for a login over a link
// with a round trip of 150 ms.
const patience = 2 * time.Second

// Fetch asks all archives at once and delivers the first sound copy, as
// Fetcher.Fetch does. Errors tell of all archives:
//
//   - A copy that is damaged, or breaks off, is passed over for the next archive's.
//   - ErrNotThere means that every archive is healthy and says so. While one
//     cannot be asked, the others' "not there" is doubt.
//   - The guards hold over all archives: a newer history, a later segment in any
//     of them counts.
//
// An archive that cannot be asked does not keep the file of another from being
// delivered, with a warning, although it might know of a newer timeline that the
// fork guard would heed. A file that is withheld at a promotion costs the
// committed rows in it, and a promotion is just what happens after an archive has
// died with the primary. A file too many costs a standby that has to be rewound.
// Archive recovery cannot end on the wrong timeline by it: before it does, it
// asks for the next history, which is then in doubt.
func (fs Fetchers) Fetch(ctx context.Context, r Request) error {
	d := NewDelivery(r.Path)
	defer d.Discard()
	if err := fs.Get(ctx, r, d.Begin); err != nil {
		return err
	}
	return d.Place()
}

// Get is Fetch without the delivery, see Fetcher.Get.
func (fs Fetchers) Get(ctx context.Context, r Request, begin func() (io.Writer, error)) error {
	name, err := walname.Parse(r.Name)
	if err != nil {
		return transport.WithHint(fmt.Errorf("%w: %w", ErrName, err),
			"restore_command passes the name as %f and the path as %p: walship fetch %f %p")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &several{late: make(chan struct{})}
	for _, f := range fs {
		q := f.question(ctx, r, name, layout.Cluster{}, begin)
		q.several, q.newer = s, s.newer
		s.all = append(s.all, q)
	}
	for _, q := range s.all {
		q.ask(ctx)
	}
	defer s.close()
	if done, err := s.deliver(ctx); done {
		return err
	}
	return s.absent(ctx)
}

// several is one Request that all archives are asked.
type several struct {
	all  []*question
	late chan struct{} // closed when nobody waits any more for those that are silent

	errs  map[*question]error // why an archive that was heard is in doubt
	heard map[*question]bool
}

func (s *several) close() {
	for _, q := range s.all {
		go func() {
			_, _ = q.asked.Wait() // whatever it was
			if q.copies != nil {
				q.copies.close()
			}
		}()
	}
}

// deliver delivers the file from the first archive that has a sound copy. done
// means that there is no more to be asked.
func (s *several) deliver(ctx context.Context) (done bool, err error) {
	s.errs, s.heard = make(map[*question]error), make(map[*question]bool)
	answers := make(chan *question, len(s.all))
	for _, q := range s.all {
		go func() {
			_, _ = q.asked.Wait()
			if s.all[0].mayBeLeft() {
				_, _ = q.own.Wait()
			}
			answers <- q
		}()
	}
	var have []*question // that have a copy that was not tried, in the order of the list
	var over <-chan time.Time
	waiting := s.all[0].mayBeLeft() || s.all[0].Data == nil // for what the others say
	for {
		if len(have) > 0 && (!waiting || len(s.heard) == len(s.all)) {
			q := have[0]
			have = have[1:]
			found, err := s.from(ctx, q)
			if found || errors.Is(err, ErrLocal) || errors.Is(err, ErrWithheld) {
				return true, err
			}
			if err != nil {
				s.errs[q] = err
			}
			continue
		}
		if len(s.heard) == len(s.all) {
			return false, nil
		}
		if len(have) > 0 && over == nil {
			over = time.After(s.patience())
		}
		select {
		case q := <-answers:
			s.heard[q] = true
			switch found, err := q.asked.Wait(); {
			case err != nil:
				s.errs[q] = err
			case found:
				have = s.inOrder(append(have, q))
			}
		case <-over:
			close(s.late)
			waiting, over = false, nil
		}
	}
}

func (s *several) patience() time.Duration { return cmp.Or(s.all[0].Patience, patience) }

// inOrder puts archives into the order of the list.
func (s *several) inOrder(some []*question) (sorted []*question) {
	for _, q := range s.all {
		for _, one := range some {
			if one == q {
				sorted = append(sorted, q)
			}
		}
	}
	return sorted
}

// from delivers the archive's copy. found means that it did so; without an error
// it means that there is none after all.
func (s *several) from(ctx context.Context, q *question) (found bool, err error) {
	if err := s.oneCluster(); err != nil {
		return true, err
	}
	if err := s.unsure(q); err != nil {
		return true, err
	}
	found, err = q.deliverFirst(ctx, q.copies)
	if !found || err != nil {
		return false, err
	}
	for _, other := range s.all {
		why := s.errs[other]
		_, newerErr := other.newerNow()
		switch {
		case other == q:
		case errors.Is(why, stored.ErrDamaged):
			q.Warn(fmt.Sprintf("delivered %s from %s, as the copy in %s is damaged: %v", q.name, q.Archive, other.Archive, why))
		case why != nil:
			q.Warn(fmt.Sprintf("delivered %s from %s; %s: %v%s", q.name, q.Archive, other.Archive, why, q.unguarded()))
		case newerErr != nil && q.mayBeLeft():
			q.Warn(fmt.Sprintf("delivered %s from %s; %s: %v%s", q.name, q.Archive, other.Archive, newerErr, q.unguarded()))
		}
	}
	return true, nil
}

// unsure is why a Sure question has to be asked again: whatever keeps an archive
// from telling of newer timelines, but damage, which stays.
func (s *several) unsure(q *question) error {
	if !q.Sure || !q.mayBeLeft() {
		return nil
	}
	for _, other := range s.all {
		_, err := other.newerNow()
		for _, why := range []error{err, s.errs[other]} {
			if why != nil && !errors.Is(why, stored.ErrDamaged) {
				return fmt.Errorf("%w: %w", transport.ErrUnreachable, s.named(other, why))
			}
		}
	}
	return nil
}

// unguarded says what an archive that could not be asked leaves open.
func (q *question) unguarded() string {
	if !q.mayBeLeft() {
		return ""
	}
	return "; a newer timeline that only that one knows of would not be seen"
}

// newerNow is what the archive has said of newer timelines, or that it has not.
func (q *question) newerNow() (newer, error) {
	select {
	case <-q.own.Done():
		return q.own.Wait()
	default:
		return newer{}, fmt.Errorf("%w: no answer within %v of another archive's", transport.ErrUnreachable, q.several.patience())
	}
}

// newer are the histories of the timelines above the file's own that any archive
// or the data directory knows of. One that cannot be asked is passed over, unless
// it is the only one.
func (s *several) newer() (all []walname.History, err error) {
	known := make(map[walname.Timeline]bool)
	damaged := make(map[walname.Timeline]error)
	answered := false
	for _, q := range s.all {
		select {
		case <-q.own.Done():
		case <-s.late:
		}
		n, failed := q.newerNow()
		switch {
		case errors.Is(failed, stored.ErrDamaged), errors.Is(failed, crypt.ErrNoKey), errors.Is(failed, crypt.ErrIdentity):
			return nil, s.named(q, failed) // it has been heard, and this stays
		case failed != nil:
			err = failed
			continue
		}
		answered = true
		for _, h := range n.histories {
			if !known[h.Timeline] {
				known[h.Timeline] = true
				all = append(all, h)
			}
		}
		for tl, why := range n.damaged {
			damaged[tl] = s.named(q, why)
		}
	}
	if !answered {
		return nil, err
	}
	for tl, why := range damaged {
		if !known[tl] {
			return nil, why
		}
	}
	return all, nil
}

// anywhere asks the archives one after the other, until one says yes.
func (q *question) anywhere(ask func(*question) (bool, error)) (bool, error) {
	s := q.several
	if s == nil {
		return ask(q)
	}
	var first error
	for _, q := range s.all {
		yes, err := ask(q)
		if yes && err == nil {
			return true, nil
		}
		if err != nil && first == nil {
			first = s.named(q, err)
		}
	}
	return false, first
}

// named adds the archive's name to its error, where there are several.
func (s *several) named(q *question, err error) error {
	if len(s.all) == 1 || err == nil {
		return err
	}
	return fmt.Errorf("%s: %w", q.Archive, err)
}

// oneCluster makes sure that all archives speak of the same cluster, where no
// data directory tells which.
func (s *several) oneCluster() error {
	var cluster layout.Cluster
	for _, q := range s.all {
		if q.Data != nil || !s.heard[q] || s.errs[q] != nil || q.cluster.SystemID == 0 {
			continue
		}
		if cluster.SystemID != 0 && cluster != q.cluster {
			return transport.WithHint(
				fmt.Errorf("%w: one holds cluster %d, another cluster %d, and there is no data directory to tell which one is meant", ErrArchive, cluster.SystemID, q.cluster.SystemID),
				"run walship in the data directory, or name it with -D or PGDATA")
		}
		cluster = q.cluster
	}
	return nil
}

// absent is the answer when no archive has delivered the file.
func (s *several) absent(ctx context.Context) error {
	if err := s.doubt(); err != nil {
		return err
	}
	first := s.all[0]
	if len(s.all) > 1 && first.GapGuard && first.Mode == pgdata.ArchiveRecovery {
		// Newer timelines tell a hole from the end of WAL: each archive has to say
		// which ones it knows of, where for a file at hand one may be passed over.
		for _, q := range s.all {
			if _, err := q.own.Wait(); err != nil {
				s.errs[q] = err
			}
		}
		if err := s.doubt(); err != nil {
			return err
		}
	}
	if err := first.guardGap(ctx); err != nil {
		return err
	}
	for _, q := range s.all {
		if q.id.SystemID == 0 {
			continue
		}
		if err := q.kept(ctx); err != nil {
			return s.named(q, err)
		}
	}
	return fmt.Errorf("%w: %s", ErrNotThere, first.name)
}

// doubt is nil if every archive says that it does not have the file.
func (s *several) doubt() error {
	if len(s.errs) == 0 {
		return nil
	}
	if len(s.all) == 1 {
		return s.errs[s.all[0]]
	}
	var err error
	var healthy, lost []string
	for _, q := range s.all {
		why := s.errs[q]
		switch {
		case why == nil:
			healthy = append(healthy, q.Archive)
			continue
		case err == nil:
			err = s.named(q, why)
		default:
			err = fmt.Errorf("%w; %w", err, s.named(q, why))
		}
		if !errors.Is(why, stored.ErrDamaged) {
			lost = append(lost, q.Archive)
		}
	}
	if len(healthy) > 0 {
		err = fmt.Errorf("%w; not in %s", err, strings.Join(healthy, " nor in "))
	}
	if len(lost) == 0 || len(lost) == len(s.all) {
		return err
	}
	hint := fmt.Sprintf("if %s is gone for good, take its URL out of archives in the configuration: what it alone held is lost then", strings.Join(lost, " or "))
	if own := transport.Hint(err); strings.HasSuffix(own, "?") {
		hint = own + " " + hint
	} else if own != "" {
		hint = own + "; " + hint
	}
	return transport.WithHint(err, hint)
}
