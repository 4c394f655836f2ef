package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"walship/internal/pgdata"
	"walship/transport"
)

// Pushers push to several archives, each of which has to have everything. There
// is at least one. They may be used concurrently.
type Pushers []*Pusher

// Push pushes to all archives at once, as Pusher.Push does to each. Nil means
// that every one of them has this very content on stable storage. Each is served
// within its own deadlines, whatever becomes of the others, but for two things,
// in which they speak with one voice:
//
//   - What one archive has other content for is stored in none of the others, if
//     it says so within agreeLimit.
//   - A history file is stored when every archive has been asked whether it is a
//     restored copy's, and none says so: one that was filled a moment ago, or has
//     lagged behind, cannot tell.
//
// The error is that of the first archive in the list that has failed, and tells
// how the others have fared.
func (ps Pushers) Push(ctx context.Context, data *pgdata.Dir, file, name string) error {
	return ps.each(func(p *Pusher) error { return p.Push(ctx, data, file, name) })
}

// SetAside sets the file aside in all archives, as Pusher.SetAside does in one.
func (ps Pushers) SetAside(ctx context.Context, data *pgdata.Dir, path, name string) (storedAs string, err error) {
	var mu sync.Mutex
	err = ps.each(func(p *Pusher) error {
		kept, err := p.SetAside(ctx, data, path, name)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			storedAs = kept
		}
		return err
	})
	return storedAs, err
}

// each calls do for every archive at once, and waits for all.
func (ps Pushers) each(do func(*Pusher) error) error {
	if len(ps) == 1 {
		return do(ps[0])
	}
	together := newAgreement(ps)
	errs := make([]error, len(ps))
	var all sync.WaitGroup
	for i, p := range ps {
		one := *p
		one.together, one.seat = together, i
		one.Warn = func(text string) { p.Warn(p.Archive + ": " + text) }
		all.Go(func() {
			errs[i] = do(&one)
			together.leave(i, errs[i])
		})
	}
	all.Wait()
	return ps.outcome(errs)
}

// outcome puts the errors of all archives into one.
func (ps Pushers) outcome(errs []error) error {
	first := -1
	alike := true // as when the file itself is at fault
	var have, failed []string
	for i, err := range errs {
		switch {
		case err == nil:
			have = append(have, ps[i].Archive)
		case first < 0:
			first = i
		default:
			failed = append(failed, fmt.Sprintf("%s: %v", ps[i].Archive, err))
		}
		alike = alike && err != nil && err.Error() == errs[0].Error()
	}
	switch {
	case first < 0:
		return nil
	case alike:
		return errs[0]
	}
	err := fmt.Errorf("%s: %w", ps[first].Archive, errs[first])
	if len(failed) > 0 {
		err = fmt.Errorf("%w; %s", err, strings.Join(failed, "; "))
	}
	switch len(have) {
	case 0:
		err = fmt.Errorf("%w; no archive has the file", err)
	case 1:
		err = fmt.Errorf("%w; %s has the file", err, have[0])
	default:
		err = fmt.Errorf("%w; %s have the file", err, strings.Join(have, " and "))
	}
	if transport.Hint(err) == "" && errors.Is(err, transport.ErrUnreachable) {
		err = transport.WithHint(err, "PostgreSQL keeps the file until every archive has it; if one is gone for good, take its URL out of archives in the configuration")
	}
	return err
}
