package sftpclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const patience = 20 * time.Second

func TestAnswersOutOfOrder(t *testing.T) {
	c, p := dial(t, patience)
	const n = 50
	var calls []*Call
	for i := range n {
		calls = append(calls, c.Stat(fmt.Sprint(i)))
	}
	var requests []request
	for range n {
		requests = append(requests, p.next())
	}
	go func() {
		for _, i := range rand.Perm(n) {
			p.reply(requests[i], typeAttrs, sized(int64(i)))
		}
	}()
	for i, call := range calls {
		if a, err := call.Attrs(t.Context()); err != nil || a.Size != int64(i) {
			t.Fatalf("answer %d: %+v, %v", i, a, err)
		}
	}
}

func TestShortReads(t *testing.T) {
	data := make([]byte, 3<<20+17)
	rand.NewChaCha8([32]byte{1}).Read(data)
	for _, most := range []int{777, chunk - 1, chunk} {
		c, p := dial(t, patience)
		p.serve(file(data, most))
		f, err := c.Open("f", Read, 0).Reader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, data) {
			t.Errorf("at most %d: %d bytes, %v", most, len(got), err)
		}
		if head, size, err := c.Open("f", Read, 0).Head(t.Context(), 100_000); err != nil || size != int64(len(data)) || !bytes.Equal(head, data[:100_000]) {
			t.Errorf("head, at most %d: %d bytes of %d, %v", most, len(head), size, err)
		}
	}
}

// A file that ends before its size is an error, not a shorter file.
func TestFileEndsEarly(t *testing.T) {
	c, p := dial(t, patience)
	serve := file(make([]byte, 100_000), chunk)
	p.serve(func(r request) (byte, []byte) {
		if r.kind == typeFstat {
			return typeAttrs, sized(200_000)
		}
		return serve(r)
	})
	f, err := c.Open("f", Read, 0).Reader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 100_000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, _, err := c.Open("f", Read, 0).Head(t.Context(), 150_000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("head: %v", err)
	}
}

// What is no SFTP ends the session at once, and every call with it.
func TestGarbage(t *testing.T) {
	for _, garbage := range []string{
		"Welcome to the server!\r\n", "\xff\xff\xff\xff\x65\x00\x00\x00\x01", "\x00\x00\x00\x00\x65", "\x00\x04\x00\x01\x65",
		"\x00\x00\x00\x03\x65\x00\x00", "\x00\x00\x00\x05\x65\x00\x00\xff\xff", "\x00\x00\x00\x05\x02\x00\x00\x00\x03",
	} {
		c, p := dial(t, patience)
		a, b := c.Stat("a"), c.Open("b", Read, 0)
		p.next()
		p.next()
		p.Write([]byte(garbage))
		within(t, patience, func() {
			_, err := a.Attrs(background)
			_, err2 := b.Handle(background)
			var lost *LostError
			if !errors.As(err, &lost) || !errors.As(err2, &lost) || c.Err() == nil {
				t.Errorf("%q: %v, %v, %v", garbage, err, err2, c.Err())
			}
			if err := c.Remove("c").OK(background); !errors.As(err, &lost) {
				t.Errorf("%q: afterwards: %v", garbage, err)
			}
		})
	}
}

// Answers of the wrong kind, cut short, or absurd, are errors of that one call,
// and never absence.
func TestAbsurdAnswers(t *testing.T) {
	kinds := []byte{typeStatus, typeHandle, typeData, typeName, typeAttrs, typeExtReply, 77}
	bodies := [][]byte{nil, {0}, u32(0), status(0), status(999), u32(1 << 31), str(strings.Repeat("h", maxHandle+1)), u32(0xffffffff), append(u32(attrExtended|attrSize), u64(1<<63)...)}
	for _, kind := range kinds {
		for _, body := range bodies {
			c, p := dial(t, patience)
			p.serve(func(request) (byte, []byte) { return kind, body })
			within(t, patience, func() {
				_, attrs := c.Stat("a").Attrs(background)
				_, handle := c.Open("b", Read, 0).Handle(background)
				h := &Handle{c, "h", "p"}
				_, data := h.read(0, 10).data(background, 10)
				list := c.OpenDir("d").List(background, func(Entry) error { return nil })
				for _, err := range []error{attrs, handle, data, list} {
					if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) || c.Err() != nil {
						t.Errorf("type %d, %x: %v, session %v", kind, body, err, c.Err())
					}
				}
				if kind != typeAttrs && attrs == nil || kind != typeHandle && handle == nil || data == nil || list == nil {
					t.Errorf("type %d, %x: taken for an answer: %v, %v, %v, %v", kind, body, attrs, handle, data, list)
				}
			})
		}
	}
}

// Only a request by name can learn that the name is absent.
func TestAbsenceIsAboutNames(t *testing.T) {
	c, p := dial(t, patience)
	p.serve(func(r request) (byte, []byte) {
		if r.kind == typeOpen || r.kind == typeOpendir {
			return typeHandle, str("h")
		}
		return typeStatus, status(statusNoSuchFile)
	})
	_, reading := c.Open("f", Read, 0).Reader(t.Context())
	_, _, head := c.Open("f", Read, 0).Head(t.Context(), 10)
	list := c.OpenDir("d").List(t.Context(), func(Entry) error { return nil })
	h, err := c.Open("f", Write, 0).Handle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := h.Writer(t.Context())
	w.WriteAt([]byte("x"), 0)
	for what, err := range map[string]error{"open": reading, "head": head, "list": list, "write": w.Flush(), "fsync": h.Fsync().OK(t.Context()), "close": h.Close().OK(t.Context())} {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := c.Remove("f").OK(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("by name: %v", err)
	}
}

func TestEndlessListing(t *testing.T) {
	c, p := dial(t, patience)
	p.serve(func(r request) (byte, []byte) {
		if r.kind == typeOpendir {
			return typeHandle, str("h")
		}
		one := append(append(str("name"), str("long")...), u32(0)...)
		return typeName, append(u32(2), append(one, one...)...)
	})
	enough := errors.New("enough")
	n := 0
	err := c.OpenDir("d").List(t.Context(), func(Entry) error {
		if n++; n == 10_000 {
			return enough
		}
		return nil
	})
	if err != enough {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	within(t, patience, func() {
		err = c.OpenDir("d").List(ctx, func(Entry) error {
			if n++; n == 20_000 {
				cancel()
			}
			return nil
		})
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSilence(t *testing.T) {
	const silence = 300 * time.Millisecond
	for name, do := range map[string]func(c *Client) error{
		"unanswered": func(c *Client) error { return c.Remove("f").OK(background) },
		"nothing taken": func(c *Client) error {
			w := (&Handle{c, "h", "p"}).Writer(background)
			for off := int64(0); ; off += chunk {
				if _, err := w.WriteAt(make([]byte, chunk), off); err != nil {
					return errors.Join(err, w.Flush())
				}
			}
		},
	} {
		c, p := dial(t, silence)
		if name == "unanswered" {
			p.serve(func(request) (byte, []byte) { return 0, nil })
		}
		// An idle session is not a silent one.
		time.Sleep(2 * silence)
		if c.Err() != nil {
			t.Fatal(c.Err())
		}
		begin := time.Now()
		within(t, patience, func() {
			if err := do(c); !errors.Is(err, ErrSilent) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if took := time.Since(begin); took < silence || took > silence+2*time.Second {
			t.Errorf("%s: ended after %v", name, took)
		}
	}
	// Neither is one that answers slowly.
	c, p := dial(t, silence)
	p.serve(func(request) (byte, []byte) {
		time.Sleep(silence / 3)
		return typeStatus, status(0)
	})
	var calls []*Call
	for range 8 {
		calls = append(calls, c.Remove("f"))
	}
	for _, call := range calls {
		if err := call.OK(background); err != nil {
			t.Error(err)
		}
	}
}

// A caller is let go when its context ends, whatever the server does.
func TestCancelled(t *testing.T) {
	c, _ := dial(t, time.Minute) // which takes nothing
	ctx, cancel := context.WithCancel(t.Context())
	w := (&Handle{c, "h", "p"}).Writer(ctx)
	ended := make(chan error, 3)
	go func() {
		for off := int64(0); ; off += 1 << 20 {
			if _, err := w.WriteAt(make([]byte, 1<<20), off); err != nil {
				ended <- err
				return
			}
		}
	}()
	go func() { ended <- c.Stat("f").OK(ctx) }()
	go func() {
		_, err := c.Open("f", Read, 0).Reader(ctx)
		ended <- err
	}()
	cancel()
	for range 3 {
		within(t, patience, func() {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	within(t, patience, func() {
		if err := w.Flush(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A file whose opener has gone is closed when it opens.
func TestCancelledOpenIsClosed(t *testing.T) {
	c, p := dial(t, patience)
	ctx, cancel := context.WithCancel(t.Context())
	call := c.Open("f", Read, 0)
	r := p.next()
	cancel()
	if _, err := call.Handle(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	p.reply(r, typeHandle, str("h7"))
	if r := p.next(); r.kind != typeClose || !bytes.Equal(r.body, str("h7")) {
		t.Errorf("got %+v, want a close", r)
	}
}

// The first error of a write ends the writing, and Flush tells it.
func TestWriterFails(t *testing.T) {
	c, p := dial(t, patience)
	n := 0
	p.serve(func(r request) (byte, []byte) {
		if n++; n == 3 {
			return typeStatus, status(StatusNoSpace)
		}
		return typeStatus, status(0)
	})
	w := (&Handle{c, "h", "p"}).Writer(t.Context())
	within(t, patience, func() {
		for off := int64(0); ; off += chunk {
			if _, err := w.WriteAt(make([]byte, chunk), off); err != nil {
				break
			}
		}
		var status *StatusError
		if err := w.Flush(); !errors.As(err, &status) || status.Code != StatusNoSpace {
			t.Errorf("%v", err)
		}
		if _, err := w.WriteAt([]byte("x"), 0); err == nil {
			t.Error("written after an error")
		}
	})
}

// Closing a file twice must not close the next one, which may have its handle.
func TestCloseOnce(t *testing.T) {
	c, p := dial(t, patience)
	closed := 0
	serve := file([]byte("x"), 1)
	p.serve(func(r request) (byte, []byte) {
		if r.kind == typeClose {
			closed++
		}
		return serve(r)
	})
	f, err := c.Open("f", Read, 0).Reader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	f.Close()
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	c.Stat("f").Wait(t.Context()) // answered after the others
	if closed != 1 {
		t.Errorf("closed %d times", closed)
	}
}

// A listing without an end is given up, and takes no memory of its own meanwhile.
func TestListingIsBounded(t *testing.T) {
	c, p := dial(t, patience)
	entry := append(append(str("n"), str("")...), u32(0)...)
	page := append(u32(10_000), bytes.Repeat(entry, 10_000)...)
	p.serve(func(r request) (byte, []byte) {
		switch r.kind {
		case typeOpendir:
			return typeHandle, str("h")
		case typeReaddir:
			return typeName, page
		}
		return typeStatus, status(0)
	})
	n := 0
	err := c.OpenDir("d").List(t.Context(), func(Entry) error { n++; return nil })
	if !errors.Is(err, errEndless) || n != maxNames {
		t.Errorf("%d names, %v", n, err)
	}
}

// A name that no file system has is no name.
func TestEndlessName(t *testing.T) {
	c, p := dial(t, patience)
	p.serve(func(r request) (byte, []byte) {
		if r.kind == typeOpendir {
			return typeHandle, str("h")
		}
		return typeName, append(append(append(u32(1), str(strings.Repeat("n", maxName+1))...), str("")...), u32(0)...)
	})
	err := c.OpenDir("d").List(t.Context(), func(Entry) error { return nil })
	if !errors.Is(err, errProtocol) {
		t.Error(err)
	}
}

// The round trip is the shortest answer's, whatever the others have waited for,
// and how much is in flight goes by it.
func TestTrip(t *testing.T) {
	c, p := dial(t, patience)
	first := c.Trip()
	if first <= 0 {
		t.Fatalf("%v after the version", first)
	}
	slow := 0
	p.serve(func(r request) (byte, []byte) {
		if slow++; slow == 1 {
			time.Sleep(first + time.Millisecond) // that is how slow it is
		}
		return typeStatus, status(0)
	})
	if err := c.Remove("f").OK(t.Context()); err != nil || c.Trip() != first {
		t.Errorf("%v after %v and a slow answer, %v", c.Trip(), first, err)
	}
	for range 20 {
		if err := c.Remove("f").OK(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if c.Trip() > first {
		t.Errorf("%v after %v and quick answers", c.Trip(), first)
	}

	for _, x := range []struct {
		trip        time.Duration
		begin, most int
	}{
		{0, windowShort, windowShort},
		{longTrip, windowShort, windowShort},
		{longTrip + 1, windowBegin, windowBegin},
		{20 * time.Millisecond, windowBegin, 2 << 20},
		{80 * time.Millisecond, windowBegin, windowLong},
		{time.Minute, windowBegin, windowLong},
	} {
		if begin, most := windows(x.trip); begin != x.begin || most != x.most {
			t.Errorf("%v: %d, %d instead of %d, %d", x.trip, begin, most, x.begin, x.most)
		}
	}
}
