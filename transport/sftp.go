package transport

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"walship/transport/internal/sftpclient"
)

// SFTP is a store on an SFTP server. Its methods may be called concurrently and
// share one connection (SSH.Connections), which OpenSFTP begins to make in the background. A
// connection that has served and is found dead is made anew, once for each
// operation; after a login that failed every operation fails with its error,
// and who wants to try again opens a new store, or has asked for SSH.Redial.
type SFTP struct {
	url        URL
	durability Durability
	dial       func() (*connection, error)
	redial     bool
	renew      time.Duration
	appendOnly bool
	cancel     context.CancelFunc

	mu      sync.Mutex
	current *link
	next    *link  // that takes its place when it stands; nil if none is on its way
	old     *link  // whose place it has taken, and on which something may still be under way; or nil
	made    uint64 // how many connections have been begun
}

// link is a connection that is being made or has been.
type link struct {
	number uint64
	dialed time.Time
	done   chan struct{} // closed when the fields below are set
	*connection
	err error
}

// OpenSFTP returns the store at u and begins to connect without waiting for it.
// ctx bounds the life of the store: when it ends, so do its connections.
func OpenSFTP(ctx context.Context, u URL, o SSH, d Durability) *SFTP {
	ctx, cancel := context.WithCancel(ctx)
	s := &SFTP{url: u, durability: d, cancel: cancel, redial: o.Redial, renew: o.Renew, appendOnly: o.AppendOnly}
	s.dial = func() (*connection, error) { return dialSFTP(ctx, u, o) }
	s.current = s.connect()
	return s
}

// Close ends the connection. Operations under way fail.
func (s *SFTP) Close() error {
	s.cancel()
	s.mu.Lock()
	l := s.current
	s.mu.Unlock()
	<-l.done
	if l.connection != nil {
		l.close()
	}
	return nil
}

// Connection numbers the connection in use: as long as it stays the same, so
// does what is behind it. It is 0 while there is none that works.
func (s *SFTP) Connection() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.current.done:
		if s.current.connection != nil && s.current.dead() == nil {
			return s.current.number
		}
	default:
	}
	return 0
}

// Quiet is how long the server has said nothing although something waits for
// it, the login included; 0 if nothing does.
func (s *SFTP) Quiet() (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.old != nil && s.old.connection != nil {
		longest = s.old.quiet()
	}
	select {
	case <-s.current.done:
		if s.current.connection != nil {
			longest = max(longest, s.current.quiet())
		}
	default:
		longest = max(longest, time.Since(s.current.dialed))
	}
	return longest
}

// connect dials in the background.
func (s *SFTP) connect() *link {
	s.made++
	l := &link{number: s.made, dialed: time.Now(), done: make(chan struct{})}
	go func() {
		l.connection, l.err = s.dial()
		if l.err != nil {
			l.err = dialError{l.err}
		}
		close(l.done)
	}()
	return l
}

// renewed puts a new link in the place of an old one, if it comes to stand. The
// old one ends with what has begun on it; and at once if the host's key is no
// longer trusted: then the old login, too, leads to where nobody wants to go.
func (s *SFTP) renewed(old, made *link) {
	<-made.done
	s.mu.Lock()
	s.next = nil
	unused := made
	switch {
	case errors.Is(made.err, ErrHostKey):
		unused = nil
	case made.connection == nil:
		old.dialed = time.Now() // and is tried again as late
	case s.current == old:
		s.current, s.old, unused = made, old, old
	}
	s.mu.Unlock()
	switch {
	case unused == nil:
		old.close()
	case unused.connection != nil:
		unused.retire()
	}
}

// dialError is a login that failed. It keeps its classes but those of files: a
// key file that is not there must never look like an archived file that is not.
type dialError struct{ error }

func (e dialError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist, fs.ErrExist, fs.ErrPermission:
		return false
	}
	return errors.Is(e.error, target)
}

func (e dialError) Hint() string { return Hint(e.error) }

// session waits for the connection, makes a new one if it has died, and takes
// one of its sessions, which the caller gives back with done.
func (s *SFTP) session(ctx context.Context) (*session, error) {
	s.mu.Lock()
	l := s.current
	select {
	case <-l.done:
		dead := l.connection != nil && l.dead() != nil
		if dead {
			l.close()
		}
		if dead || l.connection == nil && s.redial {
			l = s.connect()
			s.current = l
		} else if s.renew > 0 && s.next == nil && time.Since(l.dialed) > s.renew {
			s.next = s.connect()
			go s.renewed(l, s.next)
		}
	default:
	}
	s.mu.Unlock()
	select {
	case <-l.done:
		if l.err != nil {
			return nil, l.err
		}
		return l.take(), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, s.url.Host, context.Cause(ctx))
	}
}

// try runs op on the connection, and once more on a new one if that broke
// while op was at it; not if the server fell silent, which has cost its time.
func (s *SFTP) try(ctx context.Context, op func(*session) error) error {
	return s.tryWhile(ctx, func() bool { return true }, op)
}

// tryWhile is try for an op that can be repeated only as long as again is true.
func (s *SFTP) tryWhile(ctx context.Context, again func() bool, op func(*session) error) error {
	for first := true; ; first = false {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		c, err := s.session(ctx)
		if err != nil {
			return err
		}
		err = op(c)
		c.done()
		if !isLost(err) {
			return s.explain(err)
		}
		if !first || !again() || ctx.Err() != nil || errors.Is(err, sftpclient.ErrSilent) {
			return s.unreachable(err)
		}
	}
}

// isLost reports whether err is the end of the connection, or of the wait for it.
func isLost(err error) bool {
	var lost *sftpclient.LostError
	return errors.As(err, &lost)
}

// unreachable words the loss of the connection.
func (s *SFTP) unreachable(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrUnreachable, s.url.Host, err)
}

// explain gives an error of the server's its class.
func (s *SFTP) explain(err error) error {
	var status *sftpclient.StatusError
	if errors.As(err, &status) && !errors.Is(err, ErrFull) && (status.Code == sftpclient.StatusNoSpace || status.Code == sftpclient.StatusQuota) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// path is where name lies on the server.
func (s *SFTP) path(name string) string { return path.Join(s.url.Path, name) }

// valid checks the name of a file.
func valid(op, name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		return errInvalid(op, name)
	}
	return nil
}
