package storetest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"testing"

	"walship/transport"
)

func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T) Store { return NewMemory() })
}

// A Put that fails at any step leaves nothing or the whole file, and its retry
// is nil or finds it.
func TestMemoryFailsAtEachStep(t *testing.T) {
	for _, applied := range []bool{false, true} {
		n := 0
		for ; ; n++ {
			m := NewMemory()
			if err := m.Mkdir(t.Context(), cluster); err != nil {
				t.Fatal(err)
			}
			reached := m.Fail(n, Fault{Err: errTest, Applied: applied})
			err := m.Put(t.Context(), name, source([]byte("content")))
			if !reached() {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			if !errors.Is(err, errTest) {
				t.Fatalf("step %d, applied %v: got %v", n, applied, err)
			}
			data, there := m.Bytes(name)
			if want := n == 3 || n == 2 && applied; there != want || there && string(data) != "content" {
				t.Fatalf("step %d, applied %v: file is there: %v, %q", n, applied, there, data)
			}
			err = m.Put(t.Context(), name, source([]byte("content")))
			if there != errors.Is(err, fs.ErrExist) || !there && err != nil {
				t.Fatalf("step %d, applied %v: retry: %v", n, applied, err)
			}
		}
		if n != 4 {
			t.Fatalf("Put took %d steps, want 4", n)
		}
	}
}

func TestMemoryFailsReading(t *testing.T) {
	m := NewMemory()
	if err := m.Plant("a/file", []byte("content!")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		applied bool
		read    string
		listed  int
	}{{false, "", 0}, {true, "cont", 1}} {
		fault := Fault{Err: errTest, Applied: want.applied}
		m.Fail(1, fault)
		f, err := m.Open(t.Context(), "a/file")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if string(got) != want.read || !errors.Is(err, errTest) {
			t.Errorf("applied %v: read %q, %v", want.applied, got, err)
		}

		if err := m.Plant("a/other", nil); err != nil {
			t.Fatal(err)
		}
		m.Fail(0, fault)
		listed := 0
		err = m.List(t.Context(), "a", func(transport.FileInfo) error { listed++; return nil })
		if listed != want.listed || !errors.Is(err, errTest) {
			t.Errorf("applied %v: listed %d, %v", want.applied, listed, err)
		}
	}
}

// A hook sees each step by name and can play another process.
func TestMemoryHook(t *testing.T) {
	m := NewMemory()
	if err := m.Mkdir(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	var steps []string
	m.Hook(func(s Step) Fault {
		steps = append(steps, fmt.Sprint(s.N, " ", s.Op))
		if s.Op == "put.publish" {
			if err := m.Plant(name, []byte("other")); err != nil {
				t.Error(err)
			}
		}
		return Fault{}
	})
	if err := m.Put(t.Context(), name, source([]byte("mine"))); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("got %v, want an error that is %q", err, fs.ErrExist)
	}
	if want := []string{"0 put.create", "1 put.write", "2 put.publish", "3 put.sync"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q, want %q", steps, want)
	}
	if data, _ := m.Bytes(name); string(data) != "other" {
		t.Errorf("replaced by %q", data)
	}
	if got := m.Names(); !slices.Equal(got, []string{name}) {
		t.Errorf("left %q", got)
	}
}

// A hole in the content, and a failed write that Write keeps to itself, fail Put.
func TestMemoryWriter(t *testing.T) {
	m := NewMemory()
	if err := m.Mkdir(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{5, -1} {
		err := m.Put(t.Context(), name, transport.Source{Write: func(w io.WriterAt) error {
			w.WriteAt([]byte("x"), off)
			return nil
		}})
		if err == nil {
			t.Errorf("a single byte at %d was stored", off)
		}
		if names := m.Names(); len(names) != 0 {
			t.Errorf("left %q", names)
		}
	}
}
