package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/transport/internal/sftpclient"
)

// SFTP is a store on an SFTP server. Its methods may be called concurrently and
// share one connection, which OpenSFTP begins to make in the background. A
// connection that has served and is found dead is made anew, once for each
// operation; after a login that failed every operation fails with its error,
// and who wants to try again opens a new store, or has asked for SSH.Redial.
type SFTP struct {
	url        URL
	durability Durability
	dial       func() (*session, error)
	redial     bool
	appendOnly bool
	cancel     context.CancelFunc

	mu      sync.Mutex
	current *link
}

// link is a session that is being made or has been.
type link struct {
	done chan struct{} // closed when the fields below are set
	*session
	err error
}

// session is one connection with SFTP on it.
type session struct {
	*sftpclient.Client
	conn   io.Closer
	forget func() bool // ends the watch over the store's context

	// openSSH: the server is OpenSSH's own, which works on the requests of a
	// session in the order in which they came, and whose RENAME replaces nothing.
	openSSH bool
}

func (s *session) close() {
	s.forget()
	_ = s.Client.Close()
	_ = s.conn.Close()
}

// OpenSFTP returns the store at u and begins to connect without waiting for it.
// ctx bounds the life of the store: when it ends, so do its connections.
func OpenSFTP(ctx context.Context, u URL, o SSH, d Durability) *SFTP {
	ctx, cancel := context.WithCancel(ctx)
	s := &SFTP{url: u, durability: d, cancel: cancel, redial: o.Redial, appendOnly: o.AppendOnly}
	s.dial = func() (*session, error) { return dialSession(ctx, u, o) }
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
	if l.session != nil {
		l.close()
	}
	return nil
}

// connect dials in the background.
func (s *SFTP) connect() *link {
	l := &link{done: make(chan struct{})}
	go func() {
		l.session, l.err = s.dial()
		if l.err != nil {
			l.err = dialError{l.err}
		}
		close(l.done)
	}()
	return l
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

// session waits for the connection, and makes a new one if it has died.
func (s *SFTP) session(ctx context.Context) (*session, error) {
	s.mu.Lock()
	l := s.current
	select {
	case <-l.done:
		dead := l.session != nil && l.Err() != nil
		if dead {
			l.close()
		}
		if dead || l.session == nil && s.redial {
			l = s.connect()
			s.current = l
		}
	default:
	}
	s.mu.Unlock()
	select {
	case <-l.done:
		return l.session, l.err
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

// dialSession logs in and starts SFTP. The request for the subsystem goes out
// with the first SFTP packet in one round trip: the answer to the latter is
// the answer to both.
func dialSession(ctx context.Context, u URL, o SSH) (*session, error) {
	client, conn, err := DialSSH(ctx, u, o)
	if err != nil {
		return nil, err
	}
	forget := context.AfterFunc(ctx, func() { conn.Close() })

	c, err := startSFTP(ctx, client, o.silence())
	if err != nil {
		forget()
		conn.Close()
		return nil, WithHint(
			fmt.Errorf("%w: logged in to %s, but SFTP did not start: %w", ErrUnreachable, u.Host, err),
			`the archive host's log says why; see whether its sshd_config has the line "Subsystem sftp internal-sftp", and whether a ChrootDirectory and all folders above it belong to root and only root can write to them`)
	}
	// Behind an OpenSSH server there may be another's SFTP server; none other
	// has been seen to announce all of these. An account that may not rename is
	// not told of posix-rename.
	own := strings.HasPrefix(string(client.ServerVersion()), "SSH-2.0-OpenSSH_") && c.Has("fstatvfs@openssh.com") &&
		(c.Has("posix-rename@openssh.com") || c.Has("hardlink@openssh.com") && c.Has("fsync@openssh.com"))
	return &session{Client: c, conn: conn, forget: forget, openSSH: own}, nil
}

func startSFTP(ctx context.Context, client *ssh.Client, silence time.Duration) (*sftpclient.Client, error) {
	stop := time.AfterFunc(silence, func() { client.Close() })
	channel, requests, err := client.OpenChannel("session", nil)
	if !stop.Stop() && err != nil {
		err = fmt.Errorf("%w for %v", sftpclient.ErrSilent, silence)
	}
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(requests)
	go func() { _, _ = io.Copy(io.Discard, channel.Stderr()) }()
	if _, err := channel.SendRequest("subsystem", false, ssh.Marshal(struct{ Name string }{"sftp"})); err != nil {
		return nil, err
	}
	return sftpclient.New(ctx, sftpChannel{channel, client}, silence)
}

// sftpChannel closes the whole connection with the session: a channel alone
// cannot be closed when the peer is dead.
type sftpChannel struct {
	ssh.Channel
	conn io.Closer
}

func (c sftpChannel) Close() error { return c.conn.Close() }

// valid checks the name of a file.
func valid(op, name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsRune(name, 0) {
		return errInvalid(op, name)
	}
	return nil
}
