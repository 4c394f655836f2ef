package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const key = "0123456789abcdef"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func folderOf(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "agent")
	must(t, os.Mkdir(dir, 0o700))
	return dir
}

// serve runs an agent until the test ends, or stop is called.
func serve(t *testing.T, folder string, idle time.Duration, handle Handler) (stop func() error) {
	t.Helper()
	s, err := Listen(folder, key, handle)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, idle, time.Minute) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestCall(t *testing.T) {
	folder := folderOf(t)
	serve(t, folder, 0, func(_ context.Context, r Request, file *os.File) Reply {
		if file != nil {
			fmt.Fprint(file, "content")
		}
		return Reply{Code: 5, Message: r.Name, Hint: r.Path, Warnings: []string{r.Mode}, Size: 7}
	})
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	long := strings.Repeat("n", 30_000) // comes in several pieces
	answer, err := Call(t.Context(), folder, Request{Key: key, Name: long, Path: "/p", Mode: "m"}, file)
	must(t, err)
	if answer.Code != 5 || answer.Message != long || answer.Hint != "/p" || answer.Warnings[0] != "m" || answer.Size != 7 {
		t.Errorf("got %+v", answer)
	}
	if text, err := os.ReadFile(file.Name()); string(text) != "content" || err != nil {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if answer, err = Call(t.Context(), folder, Request{Key: key}, nil); err != nil || answer.Code != 5 {
		t.Errorf("without a file: %+v, %v", answer, err)
	}
}

// Work that takes long is waited for, as long as there are signs of life.
func TestLongWork(t *testing.T) {
	folder := folderOf(t)
	serve(t, folder, 0, func(context.Context, Request, *os.File) Reply {
		time.Sleep(2 * firstAnswer)
		return Reply{Code: 1}
	})
	if answer, err := Call(t.Context(), folder, Request{Key: key}, nil); err != nil || answer.Code != 1 {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestOne(t *testing.T) {
	folder := folderOf(t)
	handle := func(context.Context, Request, *os.File) Reply { return Reply{} }
	stop := serve(t, folder, 0, handle)
	if _, err := Listen(folder, key, handle); !errors.Is(err, ErrTaken) {
		t.Errorf("a second agent: %v", err)
	}
	must(t, stop())
	if _, err := Call(t.Context(), folder, Request{Key: key}, nil); !errors.Is(err, ErrNone) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no agent: %v", err)
	}
	serve(t, folder, 0, handle)
	keys, err := Running(folder)
	if len(keys) != 1 || keys[0] != key || err != nil {
		t.Errorf("running: %q, %v", keys, err)
	}
}

// The socket of an agent that was killed is in nobody's way.
func TestLeftSocket(t *testing.T) {
	folder := folderOf(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(folder, key), Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	if _, err := Call(t.Context(), folder, Request{Key: key}, nil); !errors.Is(err, ErrNone) {
		t.Errorf("nobody listens: %v", err)
	}
	serve(t, folder, 0, func(context.Context, Request, *os.File) Reply { return Reply{Code: 3} })
	if answer, err := Call(t.Context(), folder, Request{Key: key}, nil); err != nil || answer.Code != 3 {
		t.Errorf("%+v, %v", answer, err)
	}
}

// Whatever answers, or does not, a call gets ErrNone, and soon.
func TestTrouble(t *testing.T) {
	for name, behave := range map[string]func(net.Conn){
		"frozen":           func(net.Conn) { select {} },
		"gone":             func(c net.Conn) { c.Close() },
		"no message":       func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-OpenSSH_9.2\r\n") },
		"too long":         func(c net.Conn) { _, _ = c.Write([]byte{0x7f, 0xff, 0xff, 0xff}) },
		"not JSON":         func(c net.Conn) { _, _ = c.Write([]byte{0, 0, 0, 1, '{'}) },
		"works, then dies": func(c net.Conn) { _ = send(c, Reply{Working: true}); c.Close() },
		"works, then freezes": func(c net.Conn) {
			_ = send(c, Reply{Working: true})
			select {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := folderOf(t)
			l, err := net.Listen("unix", socketPath(folder, key))
			must(t, err)
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go behave(c)
				}
			}()
			begin := time.Now()
			answer, err := Call(t.Context(), folder, Request{Key: key}, nil)
			if !errors.Is(err, ErrNone) {
				t.Errorf("%+v, %v", answer, err)
			}
			if took := time.Since(begin); took > firstAnswer+noAnswer+10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// A call that has no time left says so, and not that there is no agent.
func TestCallEnds(t *testing.T) {
	folder := folderOf(t)
	gone := make(chan struct{})
	serve(t, folder, 0, func(ctx context.Context, _ Request, _ *os.File) Reply {
		<-ctx.Done()
		close(gone)
		return Reply{}
	})
	over := errors.New("time is up")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(over) })
	if answer, err := Call(ctx, folder, Request{Key: key}, nil); err != over {
		t.Errorf("%+v, %v", answer, err)
	}
	<-gone // the agent is told
}

// A call of another configuration or build is turned away.
func TestOtherKey(t *testing.T) {
	folder := folderOf(t)
	serve(t, folder, 0, func(context.Context, Request, *os.File) Reply { return Reply{} })
	must(t, os.Link(socketPath(folder, key), socketPath(folder, "other")))
	if answer, err := Call(t.Context(), folder, Request{Key: "other"}, nil); !errors.Is(err, ErrNone) {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestPrivate(t *testing.T) {
	handle := func(context.Context, Request, *os.File) Reply { return Reply{} }
	dir := t.TempDir()
	open, link, file, foreign := filepath.Join(dir, "open"), filepath.Join(dir, "link"), filepath.Join(dir, "file"), filepath.Join(dir, "foreign")
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o770))
	must(t, os.Symlink(folderOf(t), link))
	must(t, os.WriteFile(file, nil, 0o600))
	bad := []string{open, link, file}
	if os.Geteuid() == 0 {
		must(t, os.Mkdir(foreign, 0o700))
		must(t, os.Chown(foreign, 65534, 65534))
		bad = append(bad, foreign)
	}
	for _, folder := range bad {
		if _, err := Listen(folder, key, handle); err == nil {
			t.Errorf("%s: an agent listens", folder)
		}
		if err := Start(folder, nil, nil); err == nil {
			t.Errorf("%s: an agent is started", folder)
		}
		if _, err := Call(t.Context(), folder, Request{Key: key}, nil); !errors.Is(err, ErrNone) || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", folder, err)
		}
	}
	made := filepath.Join(dir, "made")
	s, err := Listen(made, key, handle)
	must(t, err)
	defer s.listener.Close()
	for path, want := range map[string]os.FileMode{made: 0o700 | os.ModeDir, socketPath(made, key): 0o600 | os.ModeSocket, filepath.Join(made, key+".lock"): 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
}

// What is in hand when the agent is to end is finished.
func TestDrain(t *testing.T) {
	folder := folderOf(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	stop := serve(t, folder, 0, func(context.Context, Request, *os.File) Reply {
		close(begun)
		<-finish
		return Reply{Code: 9}
	})
	answers := make(chan Reply, 1)
	go func() {
		answer, _ := Call(context.Background(), folder, Request{Key: key}, nil)
		answers <- answer
	}()
	<-begun
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	for {
		if _, err := os.Lstat(socketPath(folder, key)); errors.Is(err, os.ErrNotExist) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-ended:
		t.Error("it ended before the work in hand did")
	default:
	}
	close(finish)
	if answer := <-answers; answer.Code != 9 {
		t.Errorf("%+v", answer)
	}
	must(t, <-ended)
}

func TestIdle(t *testing.T) {
	folder := folderOf(t)
	s, err := Listen(folder, key, func(context.Context, Request, *os.File) Reply { return Reply{} })
	must(t, err)
	must(t, s.Serve(t.Context(), 100*time.Millisecond, time.Second))
	if _, err := os.Lstat(socketPath(folder, key)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket: %v", err)
	}
}

// More calls than the agent serves at once are turned away, not kept waiting.
func TestCrowd(t *testing.T) {
	folder := folderOf(t)
	finish := make(chan struct{})
	serve(t, folder, 0, func(context.Context, Request, *os.File) Reply { <-finish; return Reply{} })
	results := make(chan error, maxCalls+1)
	for range maxCalls + 1 {
		go func() {
			_, err := Call(context.Background(), folder, Request{Key: key}, nil)
			results <- err
		}()
	}
	if err := <-results; !errors.Is(err, ErrNone) {
		t.Errorf("the one too many: %v", err)
	}
	close(finish)
	for range maxCalls {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func FuzzReceive(f *testing.F) {
	packet, _ := encode(Request{Key: key, Kind: "push", Name: "000000010000000000000001"})
	f.Add(packet)
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Request
		if err := receive(strings.NewReader(string(data)), &r); err != nil {
			return
		}
		again, err := encode(r)
		if err != nil {
			return // longer than a message may be
		}
		var same Request
		if err := receive(strings.NewReader(string(again)), &same); err != nil || same != r {
			t.Errorf("%+v became %+v, %v", r, same, err)
		}
	})
}
