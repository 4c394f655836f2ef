package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// ErrTaken says that another agent serves the key.
var ErrTaken = errors.New("another agent is running")

// maxCalls bounds the calls that are served at once. One more is turned away
// and does its work itself.
const maxCalls = 64

// Handler does the work of one call. ctx ends when the call is gone, so that
// what is only for it can be given up. file is what the call has sent along, or
// nil; it is closed afterwards.
type Handler func(ctx context.Context, r Request, file *os.File) Reply

// Server is an agent's socket.
type Server struct {
	key      string
	lock     *os.File
	listener *net.UnixListener
	handle   Handler

	mu      sync.Mutex
	calls   int
	last    time.Time // when the last call ended
	running sync.WaitGroup
}

// Listen makes the socket of that key, in a folder that is this user's alone and
// is made if it is absent. ErrTaken means that there is an agent already.
func Listen(folder, key string, handle Handler) (*Server, error) {
	if err := private(folder, true); err != nil {
		return nil, fmt.Errorf("the folder of the agent's socket: %w", err)
	}
	// The lock, not the socket, says who serves: a socket outlives its owner.
	lock, err := os.OpenFile(filepath.Join(folder, key+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrTaken
		}
		return nil, err
	}
	socket := socketPath(folder, key)
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		_ = lock.Close()
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		_ = listener.Close()
		_ = lock.Close()
		return nil, err
	}
	return &Server{key: key, lock: lock, listener: listener, handle: handle, last: time.Now()}, nil
}

// Serve answers calls until ctx ends, or until for the time idle, if that is not
// 0, there has been none. Then the socket is gone, and calls that are being
// served are served to their end, for as long as drain at most.
func (s *Server) Serve(ctx context.Context, idle, drain time.Duration) error {
	defer s.lock.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { s.listener.Close() })() // removes the socket
	if idle > 0 {
		go s.watch(ctx, idle, stop)
	}
	// Calls outlive the end of ctx: what is in hand is finished.
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	for {
		conn, err := s.listener.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			break
		}
		if err != nil { // out of descriptors, mostly
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if !s.begin() {
			_ = conn.Close()
			continue
		}
		go func() {
			defer s.end()
			defer conn.Close()
			s.serve(work, conn)
		}()
	}
	_ = s.listener.Close() // at the latest now, while nobody else can have made a socket of the name
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(drain):
		return fmt.Errorf("gave up what was still under way after %v", drain)
	}
}

func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls == maxCalls {
		return false
	}
	s.calls++
	s.running.Add(1)
	return true
}

func (s *Server) end() {
	s.mu.Lock()
	s.calls--
	s.last = time.Now()
	s.mu.Unlock()
	s.running.Done()
}

// watch calls stop once there has been no call for the time idle.
func (s *Server) watch(ctx context.Context, idle time.Duration, stop func()) {
	for {
		s.mu.Lock()
		quiet := time.Since(s.last)
		if s.calls > 0 {
			quiet = 0
		}
		s.mu.Unlock()
		if quiet >= idle {
			stop()
			return
		}
		select {
		case <-time.After(idle - quiet):
		case <-ctx.Done():
			return
		}
	}
}

// serve answers one call.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	if sameUser(conn) != nil {
		return
	}
	if err := conn.SetReadDeadline(time.Now().Add(firstAnswer)); err != nil {
		return
	}
	r, file, err := receiveRequest(conn)
	if file != nil {
		defer file.Close()
	}
	if err != nil || r.Key != s.key {
		return
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	var writing sync.Mutex
	say := func(reply Reply) {
		writing.Lock()
		defer writing.Unlock()
		if conn.SetWriteDeadline(time.Now().Add(noAnswer)) != nil || send(conn, reply) != nil {
			cancel()
		}
	}
	go func() { // the call says nothing more, so this ends when it is gone
		var b [1]byte
		_, _ = conn.Read(b[:])
		cancel()
	}()
	answered := make(chan struct{})
	var signs sync.WaitGroup
	signs.Add(1)
	go func() {
		defer signs.Done()
		say(Reply{Working: true})
		for {
			select {
			case <-time.After(signOfLife):
				say(Reply{Working: true})
			case <-answered:
				return
			}
		}
	}()
	reply := s.handle(ctx, r, file)
	close(answered)
	signs.Wait()
	reply.Working = false
	say(reply)
}

// receiveRequest reads the request and the descriptor beside it.
func receiveRequest(conn *net.UnixConn) (r Request, file *os.File, err error) {
	packet, beside := make([]byte, 4+maxMessage), make([]byte, syscall.CmsgSpace(4*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(packet, beside)
	if err != nil {
		return r, nil, err
	}
	for _, fd := range descriptors(beside[:oobn]) {
		if file == nil {
			file = os.NewFile(uintptr(fd), "delivery")
		} else {
			_ = syscall.Close(fd)
		}
	}
	// A long request comes in several pieces.
	err = receive(&pieces{first: packet[:n], rest: conn}, &r)
	return r, file, err
}

type pieces struct {
	first []byte
	rest  *net.UnixConn
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.rest.Read(b)
}

func descriptors(beside []byte) (all []int) {
	messages, err := syscall.ParseSocketControlMessage(beside)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if fds, err := syscall.ParseUnixRights(&m); err == nil {
			all = append(all, fds...)
		}
	}
	for _, fd := range all {
		syscall.CloseOnExec(fd)
	}
	return all
}
