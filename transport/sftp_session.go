package transport

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/transport/internal/sftpclient"
)

// connection is a login, or as many as SSH.Connections, with SFTP sessions: each
// has a window and a server process of its own: what makes one of them wait, such
// as an fsync, holds up no other, and a long link carries more. It ends as one.
type connection struct {
	silence time.Duration
	began   time.Time
	dial    func() (*wire, error) // one more

	// openSSH: the server is OpenSSH's own, which works on the requests of a
	// session in the order in which they came, and whose RENAME replaces nothing.
	openSSH bool

	mu       sync.Mutex
	wires    []*wire
	sessions []*session
	opening  bool // one more is on its way
	closed   bool

	mostSessions, mostWires int // so many it may have: less where the server gives no more
}

// wireWindow is how long after a connection was made it may log in once more:
// later, something else may lie where the first login finds the archive.
const wireWindow = time.Minute

// wire is one login to the server.
type wire struct {
	client *ssh.Client
	conn   io.Closer
	forget func() bool // ends the watch over the store's context
	count  int         // of its sessions; guarded by connection.mu
}

func (w *wire) close() {
	w.forget()
	_ = w.conn.Close()
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
	if least.busy > 0 && len(c.sessions) < c.mostSessions && !c.opening {
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

// add opens one more session, on a login of its own if there may be another. A
// server that gives us no more is not asked again on this connection.
func (c *connection) add() {
	c.mu.Lock()
	on := slices.MinFunc(c.wires, func(a, b *wire) int { return a.count - b.count })
	another := len(c.wires) < c.mostWires && time.Since(c.began) < wireWindow
	c.mu.Unlock()
	var own *wire
	if another {
		var err error
		if own, err = c.dial(); err == nil {
			on = own
		}
	}
	client, err := startSFTP(context.Background(), on.client, c.silence, own != nil)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening = false
	if another && own == nil {
		c.mostWires = len(c.wires)
	}
	if err != nil {
		c.mostSessions = len(c.sessions)
	}
	if own != nil {
		if err != nil || c.closed {
			own.close()
			return
		}
		c.wires = append(c.wires, own)
	}
	if err == nil {
		on.count++
		c.sessions = append(c.sessions, &session{Client: client, connection: c})
	}
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

// retire closes the connection when nothing is done on it any more.
func (c *connection) retire() {
	for end := time.Now().Add(retireLimit); c.busy() && c.dead() == nil && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	c.close()
}

// retireLimit is how long what has begun on a connection may take when it is
// replaced.
const retireLimit = 5 * time.Minute

func (c *connection) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opening || slices.ContainsFunc(c.sessions, func(s *session) bool { return s.busy > 0 })
}

func (c *connection) close() {
	c.mu.Lock()
	c.closed = true
	sessions, wires := c.sessions, c.wires
	c.mu.Unlock()
	for _, w := range wires {
		w.forget()
	}
	for _, s := range sessions {
		_ = s.Client.Close()
	}
	for _, w := range wires {
		w.close()
	}
}

// dialSFTP logs in and starts SFTP. The request for the subsystem goes out
// with the first SFTP packet in one round trip: the answer to the latter is
// the answer to both.
func dialSFTP(ctx context.Context, u URL, o SSH) (*connection, error) {
	dial := func() (*wire, error) {
		client, conn, err := DialSSH(ctx, u, o)
		if err != nil {
			return nil, err
		}
		return &wire{client: client, conn: conn, forget: context.AfterFunc(ctx, func() { conn.Close() })}, nil
	}
	w, err := dial()
	if err != nil {
		return nil, err
	}
	first, err := startSFTP(ctx, w.client, o.silence(), true)
	if err != nil {
		w.close()
		return nil, WithHint(
			fmt.Errorf("%w: logged in to %s, but SFTP did not start: %w", ErrUnreachable, u.Host, err),
			`the archive host's log says why; see whether its sshd_config has the line "Subsystem sftp internal-sftp", and whether a ChrootDirectory and all folders above it belong to root and only root can write to them`)
	}
	w.count = 1
	c := &connection{silence: o.silence(), began: time.Now(), dial: dial, mostSessions: max(1, o.Sessions, o.Connections), mostWires: max(1, o.Connections), wires: []*wire{w}}
	// Behind an OpenSSH server there may be another's SFTP server; none other
	// has been seen to announce all of these. An account that may not rename is
	// not told of posix-rename.
	c.openSSH = strings.HasPrefix(string(w.client.ServerVersion()), "SSH-2.0-OpenSSH_") &&
		first.Has("fstatvfs@openssh.com") &&
		(first.Has("posix-rename@openssh.com") || first.Has("hardlink@openssh.com") && first.Has("fsync@openssh.com"))
	c.sessions = []*session{{Client: first, connection: c}}
	return c, nil
}

// startSFTP opens a session. Until it stands, an alone one takes the login with it
// when it fails, and one beside others nothing but itself.
func startSFTP(ctx context.Context, client *ssh.Client, silence time.Duration, alone bool) (*sftpclient.Client, error) {
	stop := time.AfterFunc(silence, func() {
		if alone {
			client.Close()
		}
	})
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
	c := &sftpChannel{Channel: channel, conn: client}
	c.stands.Store(alone)
	s, err := sftpclient.New(ctx, c, silence)
	if err == nil {
		c.stands.Store(true)
	}
	return s, err
}

// sftpChannel closes the whole login with the session: a channel alone cannot be
// closed when the peer is dead.
type sftpChannel struct {
	ssh.Channel
	conn   io.Closer
	stands atomic.Bool // before that it closes nothing but itself
}

func (c *sftpChannel) Close() error {
	if c.stands.Load() {
		return c.conn.Close()
	}
	go func() { _ = c.Channel.Close() }()
	return nil
}
