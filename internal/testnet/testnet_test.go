package testnet

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// echo starts a server that answers with what it gets.
func echo(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

// ask sends one byte and returns when its echo is here.
func ask(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Write([]byte{1})
	must(t, err)
	_, err = io.ReadFull(conn, make([]byte, 1))
	must(t, err)
}

// fastest is the time of the best of five tries: a busy machine adds to some.
func fastest(try func()) time.Duration {
	best := time.Hour
	for range 5 {
		begin := time.Now()
		try()
		best = min(best, time.Since(begin))
	}
	return best
}

// silentFor fails when anything arrives or the connection ends within d.
func silentFor(t *testing.T, conn net.Conn, d time.Duration) {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(d)))
	n, err := conn.Read(make([]byte, 100))
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v; want silence", n, err)
	}
	must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
}

func wantReset(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Fatalf("%v, want a reset", err)
	}
}

func TestForwardsEverythingInBothDirections(t *testing.T) {
	p := New(t, echo(t))
	conn := dial(t, p.Addr())
	want := make([]byte, 5<<20)
	_, _ = rand.Read(want)
	go func() {
		_, _ = conn.Write(want)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn) // ends because the end is forwarded, too
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came back, not the %d sent", len(got), len(want))
	}
	if p.Bytes(ToServer) != int64(len(want)) || p.Bytes(ToClient) != int64(len(want)) || p.Connections() != 1 {
		t.Errorf("counted %d, %d, %d", p.Bytes(ToServer), p.Bytes(ToClient), p.Connections())
	}
	for deadline := time.Now().Add(10 * time.Second); p.Open() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the ended connection still counts as open")
		}
		runtime.Gosched()
	}
}

func TestDelay(t *testing.T) {
	const oneWay = 50 * time.Millisecond
	p := New(t, echo(t))
	conn := dial(t, p.Addr())
	ask(t, conn)
	p.SetDelay(oneWay)
	if d := fastest(func() { ask(t, conn) }); d < 2*oneWay || d > 3*oneWay {
		t.Errorf("a round trip of %s, want %s", d, 2*oneWay)
	}
	if d := fastest(func() { ask(t, dial(t, p.Addr())) }); d < 4*oneWay || d > 6*oneWay {
		t.Errorf("connect and a round trip took %s, want %s", d, 4*oneWay)
	}
	if p.Turns() != 1+5+5 {
		t.Errorf("%d turns, want 11", p.Turns())
	}
}

// A throttling proxy would need a journey for each request, or for each window.
func TestDelayDoesNotThrottle(t *testing.T) {
	const oneWay = 100 * time.Millisecond
	p := New(t, echo(t))
	conn := dial(t, p.Addr())
	ask(t, conn)
	p.SetDelay(oneWay)

	begin := time.Now()
	go func() {
		for range 20 {
			_, _ = conn.Write([]byte{1})
			time.Sleep(time.Millisecond) // requests that are apart on the line
		}
	}()
	_, err := io.ReadFull(conn, make([]byte, 20))
	must(t, err)
	if d := time.Since(begin); d > 20*oneWay { // one after another they take 40
		t.Errorf("20 requests in flight took %s", d)
	}

	const size = 32 << 20
	begin = time.Now()
	go func() { _, _ = conn.Write(make([]byte, size)) }()
	_, err = io.ReadFull(conn, make([]byte, size))
	must(t, err)
	if d := time.Since(begin); d > 200*oneWay { // 64 kB in each round trip would take 1,000
		t.Errorf("%d bytes took %s", size, d)
	}
}

func TestBlackHole(t *testing.T) {
	p := New(t, echo(t))
	conn := dial(t, p.Addr())
	ask(t, conn)
	p.BlackHole(true)
	_, err := conn.Write([]byte("held"))
	must(t, err)
	late := dial(t, p.Addr())
	_, err = late.Write([]byte("late"))
	must(t, err)
	silentFor(t, conn, 50*time.Millisecond)
	silentFor(t, late, 50*time.Millisecond)
	p.BlackHole(false)
	for conn, want := range map[net.Conn]string{conn: "held", late: "late"} {
		got := make([]byte, 4)
		_, err = io.ReadFull(conn, got)
		must(t, err)
		if string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestStrand(t *testing.T) {
	p := New(t, echo(t))
	conn := dial(t, p.Addr())
	ask(t, conn)
	p.Strand()
	_, err := conn.Write([]byte("held"))
	must(t, err)
	silentFor(t, conn, 50*time.Millisecond)
	ask(t, dial(t, p.Addr()))
	silentFor(t, conn, 50*time.Millisecond)
}

func TestBlackHoleAfter(t *testing.T) {
	p := New(t, echo(t))
	conn := dial(t, p.Addr())
	p.BlackHoleAfter(ToClient, 3)
	_, err := conn.Write([]byte("12345"))
	must(t, err)
	got := make([]byte, 3)
	_, err = io.ReadFull(conn, got)
	must(t, err)
	silentFor(t, conn, 50*time.Millisecond)
	p.BlackHole(false)
	_, err = io.ReadFull(conn, got[:2])
	must(t, err)
	if string(got) != "453" {
		t.Errorf("%q", got)
	}
}

func TestCutAfter(t *testing.T) {
	p := New(t, echo(t))
	for _, d := range []Direction{ToServer, ToClient} {
		conn := dial(t, p.Addr())
		ask(t, conn)
		before := p.Bytes(d)
		p.CutAfter(d, 1<<20)
		go func() { _, _ = conn.Write(make([]byte, 2<<20)) }()
		n, err := io.Copy(io.Discard, conn)
		if n >= 2<<20 {
			t.Errorf("%d bytes came through", n)
		}
		wantReset(t, err)
		if got := p.Bytes(d) - before; got != 1<<20 {
			t.Errorf("%d bytes before the cut", got)
		}
		ask(t, dial(t, p.Addr())) // it happens once
	}
}

func TestResetAndRefuse(t *testing.T) {
	p := New(t, echo(t))
	conn := dial(t, p.Addr())
	ask(t, conn)
	p.Reset()
	_, err := conn.Read(make([]byte, 1))
	wantReset(t, err)

	conn = dial(t, p.Addr())
	ask(t, conn)
	must(t, p.Refuse(true))
	must(t, p.Refuse(true))
	_, err = conn.Read(make([]byte, 1))
	wantReset(t, err)
	if conn, err := net.Dial("tcp", p.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v; want a refused connection", conn, err)
	}
	must(t, p.Refuse(false))
	must(t, p.Refuse(false))
	ask(t, dial(t, p.Addr()))
}

// A reset reaches connections that the black hole holds.
func TestResetInBlackHole(t *testing.T) {
	p := New(t, echo(t))
	p.BlackHole(true)
	conn := dial(t, p.Addr())
	for p.Open() == 0 {
		runtime.Gosched()
	}
	p.Reset()
	_, err := conn.Read(make([]byte, 1))
	wantReset(t, err)
}

func TestTargetDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, l.Close())
	conn, err := net.Dial("tcp", New(t, l.Addr().String()).Addr())
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	wantReset(t, err)
}

func TestSilent(t *testing.T) {
	const greeting = "SSH-2.0-x\r\n"
	conn := dial(t, Silent(t, greeting))
	got := make([]byte, len(greeting))
	_, err := io.ReadFull(conn, got)
	must(t, err)
	if string(got) != greeting {
		t.Errorf("%q", got)
	}
	_, err = conn.Write([]byte("hello"))
	must(t, err)
	silentFor(t, conn, 50*time.Millisecond)
	silentFor(t, dial(t, Silent(t, "")), 50*time.Millisecond)
}

func TestNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("run", func(t *testing.T) {
		p := New(t, Silent(t, ""))
		p.BlackHole(true)
		dial(t, p.Addr())
		q := New(t, Silent(t, ""))
		dial(t, q.Addr())
	})
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
}
