package transport

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/transport/internal/sftpclient"
)

// connection is one login with one SFTP session on it, or several: each has a
// window and a server process of its own: what makes one of them wait, such as
// an fsync, holds up no other, and a long link carries more.
type connection struct {
	client  *ssh.Client
	conn    io.Closer
	silence time.Duration
	forget  func() bool   // ends the watch over the store's context
	most    *atomic.Int32 // sessions that it may have; the store's connections share it

	// openSSH: the server is OpenSSH's own, which works on the requests of a
	// session in the order in which they came, and whose RENAME replaces nothing.
	openSSH bool

	mu       sync.Mutex
	sessions []*session
	opening  bool // one more is on its way
}

// session is SFTP on a connection.
type session struct {
	*sftpclient.Client
	*connection
	busy int // operations and open files; guarded by connection.mu
}

// take returns the session that has least to do, for done to give back. If all
// have something to do it begins to open one more, for later.
func (c *connection) take() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	least := c.sessions[0]
	for _, s := range c.sessions[1:] {
		if s.busy < least.busy {
			least = s
		}
	}
	if least.busy > 0 && len(c.sessions) < int(c.most.Load()) && !c.opening {
		c.opening = true
		go c.add()
	}
	least.busy++
	return least
}

func (s *session) done() {
	s.connection.mu.Lock()
	s.busy--
	s.connection.mu.Unlock()
}

// hold keeps the session taken once more, by what outlives the operation.
func (s *session) hold() {
	s.connection.mu.Lock()
	s.busy++
	s.connection.mu.Unlock()
}

// add opens one more session. A server that does not let us have it is not
// asked again.
func (c *connection) add() {
	client, err := startSFTP(context.Background(), c.client, c.silence)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening = false
	if err != nil {
		c.most.Store(int32(len(c.sessions)))
		return
	}
	c.sessions = append(c.sessions, &session{Client: client, connection: c})
}

// dead is why the connection has ended, nil while it lives. Its sessions end
// with it, and it with the first of them that does.
func (c *connection) dead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		if err := s.Err(); err != nil {
			return err
		}
	}
	return nil
}

// quiet is how long the server has kept the session waiting that waits longest.
func (c *connection) quiet() (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sessions {
		longest = max(longest, s.Quiet())
	}
	return longest
}

// KeepAlive asks the server for a sign of life on each session of a connection
// that stands and has nothing to do: so that nobody on the way takes it for
// forgotten, and a dead one is known to be dead before it is needed.
func (s *SFTP) KeepAlive(ctx context.Context) {
	s.mu.Lock()
	l := s.current
	s.mu.Unlock()
	select {
	case <-l.done:
	default:
		return
	}
	if l.connection == nil || l.dead() != nil || l.quiet() > 0 {
		return
	}
	l.mu.Lock()
	sessions := l.sessions
	l.mu.Unlock()
	for _, c := range sessions {
		_, _ = c.Stat(s.path(".")).Wait(ctx) // its silence ends the session
	}
}

func (c *connection) close() {
	c.forget()
	c.mu.Lock()
	sessions := c.sessions
	c.mu.Unlock()
	for _, s := range sessions {
		_ = s.Client.Close()
	}
	_ = c.conn.Close()
}

// dialSFTP logs in and starts SFTP. The request for the subsystem goes out
// with the first SFTP packet in one round trip: the answer to the latter is
// the answer to both.
func dialSFTP(ctx context.Context, u URL, o SSH, most *atomic.Int32) (*connection, error) {
	client, conn, err := DialSSH(ctx, u, o)
	if err != nil {
		return nil, err
	}
	forget := context.AfterFunc(ctx, func() { conn.Close() })

	first, err := startSFTP(ctx, client, o.silence())
	if err != nil {
		forget()
		conn.Close()
		return nil, WithHint(
			fmt.Errorf("%w: logged in to %s, but SFTP did not start: %w", ErrUnreachable, u.Host, err),
			`the archive host's log says why; see whether its sshd_config has the line "Subsystem sftp internal-sftp", and whether a ChrootDirectory and all folders above it belong to root and only root can write to them`)
	}
	c := &connection{client: client, conn: conn, silence: o.silence(), forget: forget, most: most}
	// Behind an OpenSSH server there may be another's SFTP server; none other
	// has been seen to announce all of these.
	c.openSSH = strings.HasPrefix(string(client.ServerVersion()), "SSH-2.0-OpenSSH_") &&
		first.Has("fstatvfs@openssh.com") && first.Has("posix-rename@openssh.com")
	c.sessions = []*session{{Client: first, connection: c}}
	return c, nil
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
