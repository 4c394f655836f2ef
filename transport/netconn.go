package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Steps of a login, as messages name them.
const (
	stepConnect = "connect"
	stepVersion = "version exchange"
	stepKeys    = "key exchange"
	stepLogin   = "login"
)

const (
	// readBuffer spares system calls: x/crypto/ssh reads the version byte by
	// byte, and a packet in two pieces.
	readBuffer = 64 << 10

	// maxLogin is more than any login sends, in bytes, and ends one that is
	// nothing but banners.
	maxLogin = 1 << 20
)

var errTalksOn = errors.New("the server goes on talking and never lets the login begin")

// Conn is the TCP connection below an SSH client. Writes fail when the peer
// takes nothing for the silence that is allowed. Reads do so only during the
// login; later the reader watches for itself, and Close is what frees it.
// Close, Write and Read may be called concurrently, as with any net.Conn.
type Conn struct {
	net.Conn
	in      *bufio.Reader
	silence time.Duration
	ackNow  func() // makes the kernel acknowledge what it receives next at once

	mu      sync.Mutex
	step    string // of the login, "" after it
	got     int    // bytes received during the login
	first   []byte // the first of them
	readErr error  // what the login's last read answered
}

// dialConn connects to host and port within silence.
func dialConn(ctx context.Context, host, port string, silence time.Duration) (*Conn, error) {
	d := net.Dialer{Timeout: silence}
	tcp, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port)) // sets TCP_NODELAY
	if err != nil {
		return nil, err
	}
	c := &Conn{Conn: tcp, silence: silence, step: stepVersion, ackNow: quickAck(tcp)}
	c.in = bufio.NewReaderSize(rawReader{c}, readBuffer)
	c.ackNow()
	return c, nil
}

// Read reads as net.Conn does.
func (c *Conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Write writes as net.Conn does, and fails when the peer takes nothing for too long.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// rawReader is the side of a Conn below its buffer.
type rawReader struct{ c *Conn }

func (r rawReader) Read(p []byte) (int, error) {
	c := r.c
	if err := c.beforeRead(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	c.ackNow()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.step == "" {
		return n, err
	}
	c.got += n
	if room := 64 - len(c.first); room > 0 {
		c.first = append(c.first, p[:min(n, room)]...)
	}
	if c.step == stepVersion && n > 0 && strings.HasPrefix(string(c.first), "SSH-") {
		c.step = stepKeys
	}
	if err != nil {
		c.readErr = err
	}
	return n, err
}

// beforeRead sets the deadline of one read of the login. The lock keeps it from
// setting one after loggedIn has taken it away.
func (c *Conn) beforeRead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.step == "" {
		return nil
	}
	if c.got > maxLogin {
		c.readErr = errTalksOn
		return errTalksOn
	}
	return c.SetReadDeadline(time.Now().Add(c.silence))
}

// at says which step of the login begins. Once logged in it does nothing: a
// later key exchange is no login.
func (c *Conn) at(step string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.step != "" {
		c.step = step
	}
}

// loggedIn ends the watch over reads, the one under way included.
func (c *Conn) loggedIn() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step = ""
	return c.SetReadDeadline(time.Time{})
}

// progress answers how far the login has come: its step, what the server's
// first bytes were, and the error that its last read met, or nil.
func (c *Conn) progress() (step, first string, readErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.step, string(c.first), c.readErr
}

// netError puts a failure of the network at a step into words. It wraps
// ErrUnreachable and err.
func netError(ctx context.Context, addr, step string, silence time.Duration, err error) error {
	var dns *net.DNSError
	say := func(text string) error {
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, addr, said{text, err})
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%w: %s: %w at: %s", ErrUnreachable, addr, context.Canceled, step)
	case context.Cause(ctx) == errSlowLogin:
		return say(fmt.Sprintf("no end of the login after %s, at: %s", SSH{Silence: silence}.loginLimit(), step))
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %s: the time allowed for the whole call was over at: %s: %w", ErrUnreachable, addr, step, ctx.Err())
	case errors.As(err, &dns) && dns.IsNotFound:
		return WithHint(say(fmt.Sprintf("the host name %s is not known", dns.Name)),
			"check the host in the archive URL, and this machine's DNS and /etc/hosts")
	case errors.As(err, &dns) && !dns.IsTimeout:
		return say(fmt.Sprintf("the host name %s cannot be looked up: %s", dns.Name, dns.Err))
	case errors.As(err, &dns):
		return say(fmt.Sprintf("no answer from DNS about the host name %s", dns.Name))
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return say(fmt.Sprintf("no answer for %s at: %s", silence, step))
	case errors.Is(err, syscall.ECONNREFUSED):
		return WithHint(say("connection refused"),
			"is the SSH server running there, and is this its port?")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return say("no route to the host")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return say("the server closed the connection at: " + step)
	}
	return fmt.Errorf("%w: %s: at %s: %w", ErrUnreachable, addr, step, err)
}

// said is an error in plain words, with its cause to be found by errors.Is.
type said struct {
	text  string
	cause error
}

func (s said) Error() string { return s.text }
func (s said) Unwrap() error { return s.cause }

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
