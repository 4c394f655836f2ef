//go:build linux

package faults_test

import (
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// breakage is what goes wrong with one call, once.
type breakage struct {
	kind   string        // see session.request; "" for nothing
	on     string        // the kind of request that it waits for, "any" for each
	nth    int           // the how many-th of them, from 1
	code   uint32        // of "refuse"
	delay  time.Duration // of "slow"
	bit    uint32        // of "flip"
	inject string        // strace's expression for the sftp-server; the rest is unused
}

// Status codes of SFTP.
const (
	sftpEOF        = 1
	sftpNoSuchFile = 2
	sftpPermission = 3
	sftpFailure    = 4
	sftpExists     = 11
	sftpNoSpace    = 14
	sftpQuota      = 15
)

// ops names the requests by their types; those of 200 carry their own names.
var ops = map[byte]string{
	1: "init", 3: "open", 4: "close", 5: "read", 6: "write", 7: "lstat", 8: "fstat", 11: "opendir",
	12: "readdir", 13: "remove", 14: "mkdir", 15: "rmdir", 17: "stat", 18: "rename", 200: "extended",
}

const (
	typeStatus = 101
	typeHandle = 102
	typeData   = 103
)

// session is one SFTP session: packets are read, judged and passed on.
type session struct {
	g       *gate
	conn    net.Conn
	channel ssh.Channel
	cmd     *exec.Cmd
	in      io.WriteCloser // of the sftp-server

	mu      sync.Mutex
	asked   map[uint32]request
	handles map[string]string // paths by handle
	silent  bool              // nothing is answered any more
	writing sync.Mutex        // of answers
	deaf    bool              // nor done
	delay   time.Duration
}

// request is one that has been passed on.
type request struct {
	op, path string
	then     string   // the breakage that is due with the answer
	b        breakage // it
}

func newSession(g *gate, conn net.Conn, channel ssh.Channel) *session {
	return &session{g: g, conn: conn, channel: channel, asked: map[uint32]request{}, handles: map[string]string{}}
}

// cut breaks the connection.
func (s *session) cut() { _ = s.conn.Close() }

// kill kills the sftp-server, and strace if it runs under it.
func (s *session) kill() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) }

// readPacket reads one packet without its length.
func readPacket(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > 1<<20 {
		return nil, io.ErrUnexpectedEOF
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return p, err
}

// writePacket writes one packet in one piece.
func writePacket(w io.Writer, p []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
	return err
}

// cutString takes a string off the front of a packet's rest.
func cutString(b []byte) (s string, rest []byte) {
	if len(b) < 4 {
		return "", nil
	}
	n := int(binary.BigEndian.Uint32(b))
	if len(b)-4 < n {
		return "", nil
	}
	return string(b[4 : 4+n]), b[4+n:]
}

func status(id, code uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typeStatus}, id)
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, make([]byte, 8)...) // no message, no language
}

// requests passes on what the client asks for, until it has gone.
func (s *session) requests() {
	defer s.in.Close()
	for {
		p, err := readPacket(s.channel)
		if err != nil || !s.request(p) {
			return
		}
	}
}

// request passes on one packet. It is false when the session is over.
func (s *session) request(p []byte) bool {
	if p[0] == 1 || len(p) < 5 {
		return writePacket(s.in, p) == nil
	}
	id := binary.BigEndian.Uint32(p[1:5])
	r := request{op: ops[p[0]]}
	first, rest := cutString(p[5:])
	switch r.op {
	case "extended":
		r.op, _, _ = strings.Cut(first, "@")
		if r.op == "hardlink" || r.op == "posix-rename" {
			_, rest = cutString(rest)
			r.path, _ = cutString(rest)
		}
	case "read", "write", "fstat", "close", "readdir":
		s.mu.Lock()
		r.path = s.handles[first]
		s.mu.Unlock()
	default:
		r.path = first
	}
	b, due := s.g.meet(r.op)
	if due {
		r.b = b
		switch b.kind {
		case "refuse": // nothing is done, and that is said
			s.answer(status(id, b.code))
			return true
		case "short write": // a part is done, and that is said
			r.then = "lose"
			if r.op == "write" {
				if data, _ := cutString(rest[8:]); len(data) > 1 {
					n := len(p) - len(data) + len(data)/2
					p = append([]byte(nil), p[:n]...)
					binary.BigEndian.PutUint32(p[n-len(data)/2-4:], uint32(len(data)/2))
				}
			}
		case "cut": // the connection breaks before the request has come
			s.cut()
			return false
		case "kill": // the server dies before it
			s.kill()
			return false
		case "deaf": // a server that has frozen
			s.mu.Lock()
			s.deaf, s.silent = true, true
			s.mu.Unlock()
		case "slow":
			s.mu.Lock()
			s.delay = b.delay
			s.mu.Unlock()
		case "world":
			s.g.hook()
		default: // lose, silence, cut after, kill after, flip, eof, short read, taken: with the answer
			r.then = b.kind
		}
	}
	s.mu.Lock()
	deaf := s.deaf
	s.asked[id] = r
	s.mu.Unlock()
	return deaf || writePacket(s.in, p) == nil
}

// replies passes on what the server answers, until it has ended.
func (s *session) replies(from io.Reader) {
	for {
		p, err := readPacket(from)
		if err != nil {
			return
		}
		if len(p) < 5 || p[0] == 2 {
			s.answer(p)
			continue
		}
		id := binary.BigEndian.Uint32(p[1:5])
		s.mu.Lock()
		r := s.asked[id]
		delete(s.asked, id)
		delay := s.delay
		s.mu.Unlock()
		time.Sleep(delay) // the server is slow
		switch r.then {
		case "lose": // done, and reported as failed
			p = status(id, sftpFailure)
		case "silence": // done, and nothing is heard any more
			s.mu.Lock()
			s.silent = true
			s.mu.Unlock()
		case "cut after": // done, and the connection breaks
			s.cut()
		case "kill after":
			s.kill()
		case "flip":
			if p[0] == typeData && len(p) > 9 {
				at := r.b.bit % uint32(8*(len(p)-9))
				p[9+at/8] ^= 1 << (at % 8)
			}
		case "eof": // as of a file that has become shorter
			p = status(id, sftpEOF)
		case "short read": // which a server may do at any time
			if p[0] == typeData && len(p) > 10 {
				n := (len(p) - 9) / 2
				p = p[:9+n]
				binary.BigEndian.PutUint32(p[5:], uint32(n))
			}
		case "taken": // some servers have a code of its own for it
			if p[0] == typeStatus && binary.BigEndian.Uint32(p[5:]) == sftpFailure {
				p = status(id, sftpExists)
			}
		}
		switch r.then {
		case "silence", "cut after", "kill after":
		default:
			s.note(r, p) // as the client gets it
			s.answer(p)
		}
	}
}

// note remembers what an answer has shown.
func (s *session) note(r request, p []byte) {
	switch p[0] {
	case typeHandle:
		handle, _ := cutString(p[5:])
		s.mu.Lock()
		s.handles[handle] = r.path
		s.mu.Unlock()
	case typeData:
		if strings.HasSuffix(r.path, "/walship.json") {
			s.g.mu.Lock()
			s.g.identity, s.g.ever = true, true
			s.g.mu.Unlock()
		}
	case typeStatus:
		if binary.BigEndian.Uint32(p[5:]) == sftpNoSuchFile {
			s.g.mu.Lock()
			s.g.absent[r.path] = true
			s.g.mu.Unlock()
		}
	}
}

// answer sends the client a packet, unless the session has fallen silent. Both
// directions may answer.
func (s *session) answer(p []byte) {
	s.mu.Lock()
	silent := s.silent
	s.mu.Unlock()
	if silent {
		return
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = writePacket(s.channel, p) // the client may have gone
}
