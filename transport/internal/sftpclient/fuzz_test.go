package sftpclient

import (
	"context"
	"encoding/binary"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"
)

// script is a server whose answers are data: for each request one byte for its
// type, one for its length divided by 4, and its body. At the end it hangs up.
type script struct {
	mu   sync.Mutex
	more *sync.Cond
	data []byte
	raw  bool   // the data is sent as it is
	in   []byte // of the client, not yet a whole packet
	out  []byte
	end  bool
}

func newScript(data []byte, raw bool) *script {
	s := &script{data: data, raw: raw, out: []byte{0, 0, 0, 5, typeVersion, 0, 0, 0, 3}}
	if raw {
		s.out = append(s.out, data...)
		s.end = true
	}
	s.more = sync.NewCond(&s.mu)
	return s
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.more.Broadcast()
	s.in = append(s.in, p...)
	for len(s.in) >= 9 && len(s.in) >= 4+int(binary.BigEndian.Uint32(s.in)) {
		packet := s.in[:4+binary.BigEndian.Uint32(s.in)]
		s.in = s.in[len(packet):]
		if packet[4] == typeInit || s.raw {
			continue
		}
		if len(s.data) < 2 {
			s.end = true
			continue
		}
		kind, n := s.data[0], min(int(s.data[1])*4, len(s.data)-2)
		body := s.data[2 : 2+n]
		s.data = s.data[2+n:]
		s.out = binary.BigEndian.AppendUint32(s.out, uint32(5+n))
		s.out = append(append(append(s.out, kind), packet[5:9]...), body...)
	}
	return len(p), nil
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.out) == 0 && !s.end {
		s.more.Wait()
	}
	if len(s.out) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = true
	s.more.Broadcast()
	return nil
}

// Whatever a server answers, nothing panics or hangs, and the memory that one
// session takes is bounded.
func FuzzReplies(f *testing.F) {
	add := func(answers ...[]byte) {
		var data []byte
		for _, a := range answers {
			for (len(a)-1)%4 != 0 {
				a = append(a, 0)
			}
			data = append(append(data, a[0], byte((len(a)-1)/4)), a[1:]...)
		}
		f.Add(data, false)
	}
	answer := func(kind byte, body ...byte) []byte { return append([]byte{kind}, body...) }
	handle := answer(typeHandle, str("abcd")...)
	add(handle, answer(typeAttrs, sized(100)...), answer(typeData, str("0123456789ab")...), answer(typeStatus, status(statusEOF)...))
	add(handle, answer(typeAttrs, sized(1<<40)...), answer(typeData, str("0123")...), answer(typeData, str("")...))
	add(answer(typeStatus, status(statusNoSuchFile)...), handle, answer(typeName, append(append(u32(1), str("a")...), append(str("b"), u32(0xffffffff)...)...)...))
	f.Add([]byte("\x00\x00\x00\x05\x65\x00\x00\x00\x01"), true)
	f.Add([]byte("\xff\xff\xff\xff\x65\x00\x00\x00\x01"), true)
	f.Add([]byte("Welcome\r\n"), true)

	f.Fuzz(func(t *testing.T, data []byte, raw bool) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err := New(ctx, newScript(data, raw), 20*time.Second)
		if err != nil {
			return
		}
		defer c.Close()
		if file, err := c.Open("f", Read, 0).Reader(ctx); err == nil {
			io.Copy(io.Discard, io.LimitReader(file, 1<<20))
			file.Close()
		}
		c.Open("f", Read, 0).Head(ctx, 100_000)
		n := 0
		c.OpenDir("d").List(ctx, func(Entry) error { n++; return nil })
		if h, err := c.Open("f", Write|Create|Excl, 0o600).Handle(ctx); err == nil {
			w := h.Writer(ctx)
			w.WriteAt(make([]byte, 100_000), 0)
			w.Flush()
			h.Fsync().OK(ctx)
			h.Close().OK(ctx)
		}
		c.ext = map[string]string{"statvfs@openssh.com": "2"}
		c.Space(ctx, "d")
		c.Link("a", "b").OK(ctx)
		if ctx.Err() != nil {
			t.Errorf("hangs: %d entries", n)
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
			t.Errorf("%d bytes of answers took %d bytes of memory", len(data), took)
		}
	})
}
