package basebackup

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func testPart() Part {
	return Part{
		Ref: Ref{Name: "base-000001.tar.zst", Size: 10240, StoredSize: 600, SHA256: Sum{9}},
		Files: []File{
			{Path: "base", Type: Dir, Mode: 0o700, ModTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
			{Path: "base/1/1259", Size: 8192, Mode: 0o600, SHA256: &Sum{7}},
			{Path: "pg_tblspc/16384", Type: Link, Link: "/mnt/fast disk"},
			{Path: "odd\n\"name\"\xc3\xa4", Mode: 0o600, SHA256: &Sum{}},
		},
	}
}

func TestListRoundTrip(t *testing.T) {
	var b bytes.Buffer
	want := []Part{testPart(), testPart()}
	want[1].Name, want[1].Tablespace = "16384-000001.tar.zst", 16384
	for _, p := range want {
		if n, err := p.WriteTo(&b); err != nil || n == 0 {
			t.Fatal(n, err)
		}
	}
	if n := strings.Count(b.String(), "\n"); n != 2 {
		t.Errorf("%d lines", n)
	}
	var got []Part
	err := ReadParts(iotest.OneByteReader(&b), func(p Part) error { got = append(got, p); return nil })
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBadLists(t *testing.T) {
	for what, change := range map[string]func(*Part){
		"no name":             func(p *Part) { p.Name = "" },
		"a name with a slash": func(p *Part) { p.Name = "../base-000001.tar" },
		"an absolute path":    func(p *Part) { p.Files[1].Path = "/etc/passwd" },
		"a path that leads out": func(p *Part) {
			p.Files[1].Path = "../x"
		},
		"a path through":      func(p *Part) { p.Files[1].Path = "base/../../x" },
		"the folder above":    func(p *Part) { p.Files[0].Path = ".." },
		"an empty path":       func(p *Part) { p.Files[0].Path = "" },
		"a NUL":               func(p *Part) { p.Files[0].Path = "a\x00b" },
		"a double slash":      func(p *Part) { p.Files[0].Path = "a//b" },
		"a negative size":     func(p *Part) { p.Files[1].Size = -1 },
		"a file without hash": func(p *Part) { p.Files[1].SHA256 = nil },
		"a device":            func(p *Part) { p.Files[0].Type = "device" },
		"a strange mode":      func(p *Part) { p.Files[1].Mode = 0o100600 },
		"too many files":      func(p *Part) { p.Files = make([]File, MaxPartFiles+1) },
	} {
		p := testPart()
		change(&p)
		var b bytes.Buffer
		_, _ = p.WriteTo(&b)
		err := ReadParts(&b, func(Part) error { return nil })
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, text := range []string{"{", `{"name":"x","sha256":"00"}`, "[]", "x", `{"name":5}`} {
		if err := ReadParts(strings.NewReader(text), func(Part) error { return nil }); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A list that cannot be read is not a damaged one, and a caller's own error is
// given back as it is.
func TestListErrors(t *testing.T) {
	dead := errors.New("the line is dead")
	err := ReadParts(iotest.ErrReader(dead), func(Part) error { return nil })
	if !errors.Is(err, dead) || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	var b bytes.Buffer
	_, _ = testPart().WriteTo(&b)
	line := b.String()
	if err := ReadParts(strings.NewReader(line), func(Part) error { return io.ErrShortWrite }); err != io.ErrShortWrite {
		t.Error(err)
	}
	err = ReadParts(io.MultiReader(strings.NewReader(line[:50]), iotest.ErrReader(dead)), func(Part) error { return nil })
	if !errors.Is(err, dead) || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func FuzzReadParts(f *testing.F) {
	var b bytes.Buffer
	_, _ = testPart().WriteTo(&b)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = ReadParts(bytes.NewReader(data), func(p Part) error {
			for _, file := range p.Files {
				if strings.HasPrefix(file.Path, "/") || strings.Contains("/"+file.Path+"/", "/../") {
					t.Errorf("%q", file.Path)
				}
			}
			return nil
		})
	})
}
