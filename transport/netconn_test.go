package transport

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/internal/testsshd"
)

const silent = 300 * time.Millisecond // what the tests allow a server

// listen runs serve for each connection until the test ends.
func listen(t *testing.T, serve func(net.Conn)) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go serve(c)
		}
	}()
	return "sftp://u@" + l.Addr().String() + "/"
}

// inTime fails the test when f takes much longer than a server may be silent.
func inTime(t *testing.T, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if d := time.Since(begin); d > silent+2*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestNetworkFailures(t *testing.T) {
	home := alone(t)
	signer, key := testsshd.NewKey(t, "", "")
	o := SSH{KeyFile: write(t, home+"/key", 0o600, string(key)), KnownHosts: home + "/known", Silence: silent}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	full := fullListener(t)
	// A server that takes part in the key exchange and then says nothing, or banners for ever.
	var flood atomic.Bool
	afterKex := listen(t, func(c net.Conn) {
		var login ssh.ServerPreAuthConn
		config := &ssh.ServerConfig{
			PreAuthConnCallback: func(c ssh.ServerPreAuthConn) { login = c },
			PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
				for flood.Load() && login.SendAuthBanner(strings.Repeat("x", 30000)) == nil {
				}
				<-t.Context().Done()
				return nil, errors.New("no")
			},
		}
		config.AddHostKey(signer)
		ssh.NewServerConn(c, config)
	})
	addr := strings.TrimSuffix(strings.TrimPrefix(afterKex, "sftp://u@"), "/")
	write(t, o.KnownHosts, 0o600, strings.Join([]string{"[127.0.0.1]:" + addr[len("127.0.0.1:"):], strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}, " ")+"\n")

	say := func(s string, closing bool) func(net.Conn) {
		return func(c net.Conn) {
			c.Write([]byte(s))
			if closing {
				c.(*net.TCPConn).CloseWrite()
			}
		}
	}
	for _, c := range []struct {
		name, url string
		texts     []string
	}{
		{"port refused", "sftp://u@" + l.Addr().String() + "/", []string{"connection refused", l.Addr().String()}},
		{"silent at connect", "sftp://u@" + full + "/", []string{"no answer for 300ms at: connect"}},
		{"silent from the start", listen(t, func(net.Conn) {}), []string{"no answer for 300ms at: version exchange"}},
		{"silent after its version", listen(t, say("SSH-2.0-x\r\n", false)), []string{"no answer for 300ms at: key exchange"}},
		{"silent after key exchange", afterKex, []string{"no answer for 300ms at: login"}},
		{"closes at once", listen(t, say("", true)), []string{"closed the connection at: version exchange", "MaxStartups"}},
		{"resets", listen(t, func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }), []string{"closed the connection at: ", "MaxStartups"}},
		{"too many", listen(t, say("Exceeded MaxStartups\r\n", true)), []string{"MaxStartups"}},
		{"closes later", listen(t, say("SSH-2.0-x\r\n", true)), []string{"closed the connection at: key exchange"}},
		{"no SSH server", listen(t, say("HTTP/1.1 400 Bad Request\r\n\r\n", true)), []string{"not an SSH server", "HTTP/1.1 400"}},
		{"endless lines", listen(t, func(c net.Conn) {
			for _, err := c.Write([]byte("hello\r\n")); err == nil; _, err = c.Write([]byte("hello\r\n")) {
			}
		}), []string{"not an SSH server", "hello"}},
		{"a name that is none", "sftp://u@no-such-host.invalid/", []string{"no-such-host.invalid"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTime(t, func() { mustFail(t, c.url, o, ErrUnreachable, c.texts...) })
		})
	}
	t.Run("endless banners", func(t *testing.T) {
		flood.Store(true)
		o := o
		o.Silence = time.Minute
		inTime(t, func() { mustFail(t, afterKex, o, ErrUnreachable, "goes on talking") })
	})
	t.Run("trickles for ever", func(t *testing.T) {
		url := listen(t, func(c net.Conn) {
			for _, err := c.Write([]byte("x\r\n")); err == nil; _, err = c.Write([]byte("x\r\n")) {
				time.Sleep(100 * time.Millisecond) // the peer's slowness is what is tested
			}
		})
		begin := time.Now()
		mustFail(t, url, o, ErrUnreachable, "no end of the login after 5s, at: version exchange")
		if d := time.Since(begin); d > 7*time.Second {
			t.Errorf("took %v", d)
		}
	})
	t.Run("trickles", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), silent)
		defer cancel()
		u := sshURL(t, listen(t, func(c net.Conn) {
			for _, err := c.Write([]byte("x")); err == nil; _, err = c.Write([]byte("x")) {
				time.Sleep(20 * time.Millisecond) // the peer's slowness is what is tested
			}
		}))
		o := o
		o.Silence = time.Minute
		inTime(t, func() {
			_, _, err := DialSSH(ctx, u, o)
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "version exchange") {
				t.Errorf("%v", err)
			}
		})
	})
}

func TestMaxStartups(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{Config: []string{"MaxStartups 1"}})
	hold, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if _, err := hold.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	mustFail(t, s.URL("/"), sshOptions(s), ErrUnreachable, "MaxStartups")
}

// fullListener returns the address of a listener that accepts no more.
func fullListener(t *testing.T) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*syscall.SockaddrInet4).Port}).String()
	for range 16 {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the listener takes every connection")
	return ""
}

func TestWriteIsBounded(t *testing.T) {
	u := sshURL(t, listen(t, func(net.Conn) {}))
	c, err := dialConn(t.Context(), u.Host, u.Port, silent)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	inTime(t, func() {
		for err == nil {
			_, err = c.Write(make([]byte, 1<<20))
		}
	})
	if !isTimeout(err) {
		t.Errorf("%v", err)
	}
}
