package pgserver

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"walship/internal/basebackup"
	"walship/internal/pgdata"
)

func TestCommand(t *testing.T) {
	for _, c := range []struct {
		version pgdata.Version
		o       BackupOptions
		want    string
	}{
		{version91, BackupOptions{Label: "it's", Fast: true, MaxRate: 100}, "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT"},
		{version94, BackupOptions{Label: "a", MaxRate: 10}, "BASE_BACKUP LABEL 'a' PROGRESS NOWAIT MAX_RATE 32"},
		{version95, BackupOptions{Label: "a"}, "BASE_BACKUP LABEL 'a' PROGRESS NOWAIT TABLESPACE_MAP"},
		{version13, BackupOptions{Label: "a", MaxRate: 1 << 30}, "BASE_BACKUP LABEL 'a' PROGRESS NOWAIT MAX_RATE 1048576 TABLESPACE_MAP MANIFEST 'yes'"},
		{version15, BackupOptions{Label: "a", Fast: true, MaxRate: 64}, "BASE_BACKUP (LABEL 'a', PROGRESS, WAIT 0, TABLESPACE_MAP, MANIFEST 'yes', CHECKPOINT 'fast', MAX_RATE 64)"},
	} {
		if got := baseBackup(c.version, c.o); got != c.want {
			t.Errorf("%s: %s", c.version, got)
		}
	}
}

func TestMajorVersion(t *testing.T) {
	for s, want := range map[string]string{
		"9.0.0": "9.0", "9.6.24": "9.6", "9.5alpha1": "9.5", "10.23": "10", "15.20 (Debian 15.20-0+deb12u1)": "15", "18.4": "18", "19devel": "19", "17beta1": "17",
		"8.4.22": "", "": "", "x": "", "9": "",
	} {
		v, err := majorVersion(s)
		if want == "" && err == nil || want != "" && (err != nil || v.String() != want) {
			t.Errorf("%q: %s, %v", s, v, err)
		}
	}
}

func TestQuantity(t *testing.T) {
	for s, want := range map[string]int64{"16MB": 16 << 20, "1GB": 1 << 30, "8192": 8192, "8kB": 8192, "16777216B": 16 << 20} {
		if n, err := quantity(s); n != want || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "MB", "1 MB", "-1", "99999999999999999999", "9999999999999MB", "1mb"} {
		if n, err := quantity(s); err == nil {
			t.Errorf("%q: %d", s, n)
		}
	}
}

// talk is what a server sends in answer to BASE_BACKUP.
type talk struct{ bytes.Buffer }

func (b *talk) say(t testing.TB, messages ...pgproto3.BackendMessage) {
	t.Helper()
	for _, m := range messages {
		text, err := m.Encode(nil)
		must(t, err)
		b.Write(text)
	}
}

func (b *talk) result(t testing.TB, rows ...[][]byte) {
	b.say(t, &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a")}}})
	for _, row := range rows {
		b.say(t, &pgproto3.DataRow{Values: row})
	}
	b.say(t, &pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
}

// data sends bytes in messages of any size, marked if there is a mark.
func (b *talk) data(t testing.TB, mark string, text []byte, size int) {
	for len(text) > 0 {
		n := min(size, len(text))
		b.say(t, &pgproto3.CopyData{Data: append([]byte(mark), text[:n]...)})
		text = text[n:]
	}
}

func tarOf(t testing.TB, trailer bool, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range files {
		must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(name)), Typeflag: tar.TypeReg}))
		_, err := w.Write([]byte(name))
		must(t, err)
	}
	must(t, w.Close())
	if !trailer {
		b.Truncate(b.Len() - 1024)
	}
	return b.Bytes()
}

// oldHeaders makes headers as 9.1 writes them: "ustar00" as magic and version,
// which is neither, and a mode with the type in it.
func oldHeaders(text []byte) []byte {
	for at := 0; at+512 <= len(text); at += 1024 { // each file takes one block
		h := text[at : at+512]
		copy(h[257:], "ustar00\x00")
		copy(h[100:], "0100600 ")
		copy(h[148:], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o \x00", sum))
	}
	return text
}

func field(s string) []byte { return []byte(s) }

// script is a whole answer in the form of a version.
func script(t testing.TB, version pgdata.Version, size int) *talk {
	t.Helper()
	b := &talk{}
	b.result(t, [][]byte{field("0/2000028"), field("1")})
	b.result(t, [][]byte{field("16384"), field("/space"), field("8")}, [][]byte{nil, nil, field("100")})
	space, base := tarOf(t, version >= version15, "PG_15_1/5/16385"), tarOf(t, version >= version15, "PG_VERSION", "base/1/1259", "global/pg_control")
	if version < version92 {
		space, base = oldHeaders(space), oldHeaders(base)
	}
	switch {
	case version >= version15:
		b.say(t, &pgproto3.CopyOutResponse{})
		b.data(t, "n", field("16384.tar\x00/space\x00"), 100)
		b.data(t, "d", space, size)
		b.data(t, "p", field("\x00\x00\x00\x00\x00\x00\x10\x00"), 8)
		b.data(t, "n", field("base.tar\x00\x00"), 100)
		b.data(t, "d", base, size)
		b.say(t, &pgproto3.CopyData{Data: field("m")})
		b.data(t, "d", field("the manifest"), size)
		b.say(t, &pgproto3.CopyDone{})
	default:
		for _, archive := range [][]byte{space, base} {
			b.say(t, &pgproto3.CopyOutResponse{})
			b.data(t, "", archive, size)
			b.say(t, &pgproto3.CopyDone{})
		}
		if version >= version13 {
			b.say(t, &pgproto3.CopyOutResponse{})
			b.data(t, "", field("the manifest"), size)
			b.say(t, &pgproto3.CopyDone{})
		}
	}
	b.result(t, [][]byte{field("0/2000100"), field("1")})
	b.say(t, &pgproto3.CommandComplete{CommandTag: field("SELECT")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	return b
}

// listen reads an answer as a source would, and returns what was in it.
func listen(version pgdata.Version, answer []byte) (got []string, err error) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	to := target{host: "h"}
	b := &common{sql: &Conn{version: version, to: to}, warn: func(string) {}}
	b.info.Timeline = 1
	w := &wire{ctx: context.Background(), stop: func() bool { return true }, conn: near, to: to, warn: b.warn,
		front: pgproto3.NewFrontend(bytes.NewReader(answer), io.Discard)}
	w.front.SetMaxBodyLen(1 << 20)
	s := &protocolSource{common: b, stream: &stream{wire: w, tagged: version >= version15}}
	if err := s.begin(); err != nil {
		return nil, err
	}
	s.entries = &entries{stream: s.stream}
	for {
		e, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return got, err
		}
		if e.Path != path.Clean(e.Path) || path.IsAbs(e.Path) || strings.HasPrefix(e.Path, "../") || e.Path == ".." || e.Path == "." {
			return got, errors.New("BUG: path " + e.Path)
		}
		text, err := io.ReadAll(s)
		if err != nil {
			return got, err
		}
		if !e.ServerManifest && e.Type == basebackup.Regular && int64(len(text)) != e.Size {
			return got, errors.New("BUG: size")
		}
		got = append(got, e.Path+"="+string(text))
	}
	rows, err := s.stream.rows(true)
	if err != nil {
		return got, err
	}
	_, _, err = s.at(rows, 1)
	return got, err
}

var shapes = []pgdata.Version{version91, version11, version13, version15}

func TestStream(t *testing.T) {
	for _, version := range shapes {
		want := "PG_15_1/5/16385=PG_15_1/5/16385 PG_VERSION=PG_VERSION base/1/1259=base/1/1259 global/pg_control=global/pg_control"
		if version >= version13 {
			want += " backup_manifest=the manifest"
		}
		for _, size := range []int{1, 511, 513, 1 << 16} {
			got, err := listen(version, script(t, version, size).Bytes())
			if err != nil || strings.Join(got, " ") != want {
				t.Errorf("%s, %d bytes at a time: %v, %v", version, size, got, err)
			}
		}
		// Cut short anywhere, it is never taken for whole.
		whole := script(t, version, 300).Bytes()
		end := len(whole) - 6 - 12 // ReadyForQuery and the CommandComplete before it are Finish's
		for at := 0; at < end; at += 7 {
			if got, err := listen(version, whole[:at]); err == nil {
				t.Fatalf("%s: %d bytes of %d are enough: %v", version, at, len(whole), got)
			}
		}
	}
}

func FuzzStream(f *testing.F) {
	for i, version := range shapes {
		f.Add(uint8(i), script(f, version, 300).Bytes())
	}
	f.Fuzz(func(t *testing.T, shape uint8, answer []byte) {
		if _, err := listen(shapes[int(shape)%len(shapes)], answer); err != nil && strings.HasPrefix(err.Error(), "BUG") {
			t.Error(err)
		}
	})
}

func TestWarned(t *testing.T) {
	var w warned
	said := &pgconn.PgError{Message: "checksum verification failure during base backup"}
	if got := w.text(said); got != "the server says: checksum verification failure during base backup" {
		t.Error(got)
	}
	w.add("something else")
	for i := range 5 {
		w.add(fmt.Sprintf("Prüfsumme in Datei »./base/5/%d.1«, Block 3: falsch", i))
		w.add(fmt.Sprintf("file \"./base/5/%d.1\" has a total of 7 checksum verification failures", i))
	}
	got := w.text(said)
	if want := "./base/5/0.1«, Block 3: falsch; "; !strings.Contains(got, want) || !strings.HasSuffix(got, "./base/5/2.1«, Block 3: falsch; and 2 more files") || strings.Contains(got, "total") {
		t.Error(got)
	}
}
