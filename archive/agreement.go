package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// agreeLimit is how long an archive that has not said yet what it has under a
// name may keep the others from publishing theirs; at most a third of the time
// that there is left for the whole call.
const agreeLimit = 10 * time.Second

// agreement is what the archives of one push tell each other. A nil one is that
// of an archive that is alone.
type agreement struct {
	names    []string
	conflict *poll // has an archive other content under the name?
	clone    *poll // does an archive take it for a restored copy's?
}

func newAgreement(ps Pushers) *agreement {
	a := &agreement{conflict: newPoll(len(ps)), clone: newPoll(len(ps))}
	for _, p := range ps {
		a.names = append(a.names, p.Archive)
	}
	return a
}

// leave says that the archive's push has come to its end.
func (a *agreement) leave(seat int, err error) {
	if err == nil || errors.Is(err, errElsewhere) {
		a.conflict.vote(seat, nil)
		a.clone.vote(seat, nil)
		return
	}
	a.conflict.vote(seat, err)
	a.clone.vote(seat, err)
}

// errElsewhere marks what an archive refuses only because another one does.
var errElsewhere = errors.New("so it is not stored here")

// free says that the archive has nothing under the name.
func (p *Pusher) free() {
	if p.together != nil {
		p.together.conflict.vote(p.seat, nil)
	}
}

// refuses says that the archive refuses the content, even if it lets it pass.
func (p *Pusher) refuses(why error) {
	if p.together != nil && errors.Is(why, ErrConflict) && !errors.Is(why, errElsewhere) {
		p.together.conflict.vote(p.seat, why)
	}
}

// confirm is asked before the content is published, with what the archive itself
// has against that: what one archive has other content for must not get into
// another, which would be fetched from when the first is down.
func (p *Pusher) confirm(ctx context.Context, own error) error {
	if own != nil || p.together == nil {
		return own
	}
	limit := agreeLimit
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/3)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for i, why := range p.together.conflict.wait(ctx) {
		if i != p.seat && errors.Is(why, ErrConflict) {
			return fmt.Errorf("%w in %s, %w", ErrConflict, p.together.names[i], errElsewhere)
		}
	}
	return nil
}

// guardClone refuses the history file of what looks like a restored copy to any
// of the archives. One that cannot be asked may be the one that knows.
func (p *Pusher) guardClone(ctx context.Context, f *file, stem string) error {
	err := p.judgeClone(ctx, f, stem)
	if p.together == nil {
		return err
	}
	p.together.clone.vote(p.seat, err)
	votes := p.together.clone.wait(ctx)
	if err != nil {
		return err
	}
	for i, why := range votes {
		if errors.Is(why, ErrCloned) {
			return fmt.Errorf("%w to %s, %w", ErrCloned, p.together.names[i], errElsewhere)
		}
	}
	for i, why := range votes {
		if why != nil {
			return fmt.Errorf("whether it is that of a restored copy has to be asked of %s too, %w: %w", p.together.names[i], errElsewhere, why)
		}
	}
	return context.Cause(ctx)
}

// poll is a question that every archive answers.
type poll struct {
	mu    sync.Mutex
	votes []error
	voted []bool
	left  int
	over  chan struct{} // closed when all have voted
}

func newPoll(n int) *poll {
	return &poll{votes: make([]error, n), voted: make([]bool, n), left: n, over: make(chan struct{})}
}

// vote gives an archive's answer, nil if it has nothing against the content. The
// first one counts, but that an objection can still be made.
func (v *poll) vote(seat int, objection error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.votes[seat] == nil {
		v.votes[seat] = objection
	}
	if !v.voted[seat] {
		v.voted[seat] = true
		if v.left--; v.left == 0 {
			close(v.over)
		}
	}
}

// wait waits for all answers as long as ctx lasts, and returns those that there
// are.
func (v *poll) wait(ctx context.Context) []error {
	select {
	case <-v.over:
	case <-ctx.Done():
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]error(nil), v.votes...)
}
