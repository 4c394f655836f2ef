package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// write writes files into a new folder, whose path it returns.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadConfValues(t *testing.T) {
	for _, c := range []struct{ line, name, value string }{
		{"port = 5432", "port", "5432"},
		{"port 5432", "port", "5432"},
		{"port=5432", "port", "5432"},
		{" \t Port\t=\t5432 # why", "port", "5432"},
		{"port=5432#x", "port", "5432"},
		{"PORT = 5432\r", "port", "5432"},
		{"my.Name = 1", "my.name", "1"},
		{"a_1 = on", "a_1", "on"},
		{"x = 16MB", "x", "16MB"},
		{"x = -1", "x", "-1"},
		{"x = +0x1Fkb", "x", "+0x1Fkb"},
		{"x = 0x", "x", "0x"},
		{"x = 1.5e-3", "x", "1.5e-3"},
		{"x = .5", "x", ".5"},
		{"x = 2.", "x", "2."},
		{"x = utf-8", "x", "utf-8"},
		{"x = a/b:c_d.e-f", "x", "a/b:c_d.e-f"},
		{"x = a.b.c", "x", "a.b.c"},
		{"x = ''", "x", ""},
		{"x = 'it''s'", "x", "it's"},
		{`x = 'it\'s'`, "x", "it's"},
		{`x = 'a\nb\tc\\d\qe'`, "x", "a\nb\tc\\dqe"},
		{`x = '\101\60\7\18'`, "x", "A0\a\x018"},
		{`x = '# no comment = '`, "x", "# no comment = "},
		{`x = 'walship push "%p" %f' # c`, "x", `walship push "%p" %f`},
		{"x'1'", "x", "1"},
		{"caf\xe9 = \xfcber", "caf\xe9", "\xfcber"},
		{"x = 'caf\xe9'", "x", "caf\xe9"},
		{"x = 'caf\u00e9'", "x", "café"},
	} {
		for _, end := range []string{"", "\n", "\r\n"} {
			path := filepath.Join(write(t, map[string]string{"c": "# begin\n\n" + c.line + end}), "c")
			got, err := ReadConf(path)
			if err != nil || len(got) != 1 || got[0] != (Setting{c.name, c.value, path, 3}) {
				t.Errorf("%q: %+v, %v", c.line+end, got, err)
			}
		}
	}
}

func TestReadConfSyntax(t *testing.T) {
	for _, line := range []string{
		"port", "port =", "= 1", "1 = 1", "'port' = 1", "a-b = 1", "a.b.c = 1", "port = = 1",
		"port = 1 2", "port = a.b", "port = 'a", `port = 'a\'`, "port = 'a' 'b'", "port = 'a'b", "port = /x",
		"port = 1.5GB", "port = +", "port = -x", "port = 12_3", "port = 1,2", "port = *", "port\f= 1", "port = a\x00b",
	} {
		path := filepath.Join(write(t, map[string]string{"c": "a = 1\n" + line + "\nb = 2\n"}), "c")
		got, err := ReadConf(path)
		if err == nil || got != nil || !strings.Contains(err.Error(), path+", line 2: syntax error") {
			t.Errorf("%q: %+v, %v", line, got, err)
		}
	}
}

func TestReadConfIncludes(t *testing.T) {
	dir := write(t, map[string]string{
		"main": "a = 1\ninclude 'sub/one'\ninclude_if_exists = 'none'\nInclude_Dir 'conf.d'\nz = 9\n",
		// Relative to the file that it stands in, not to the first one.
		"sub/one":          "a = 2\ninclude 'two'\n",
		"sub/two":          "b = 'two'\n",
		"conf.d/20.conf":   "c = 20",
		"conf.d/10.conf":   "c = 10",
		"conf.d/A.conf":    "d = 'capital letters come after digits'",
		"conf.d/.x.conf":   "not read",
		"conf.d/x.conf~":   "not read",
		"conf.d/d.conf/no": "not read",
	})
	got, err := ReadConf(filepath.Join(dir, "main"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range got {
		file, _ := filepath.Rel(dir, s.File)
		all = append(all, fmt.Sprintf("%s:%d %s=%s", file, s.Line, s.Name, s.Value))
	}
	want := `main:1 a=1
sub/one:1 a=2
sub/two:1 b=two
conf.d/10.conf:1 c=10
conf.d/20.conf:1 c=20
conf.d/A.conf:1 d=capital letters come after digits
main:5 z=9`
	if text := strings.Join(all, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if s, ok := Lookup(got, "c"); !ok || s.Value != "20" {
		t.Errorf("c = %+v, %v", s, ok)
	}
	if s, ok := Lookup(got, "none"); ok {
		t.Errorf("none = %+v", s)
	}

	// A relative path works too and gives absolute ones.
	t.Chdir(dir)
	if got, err := ReadConf("main"); err != nil || got[1].File != filepath.Join(dir, "sub/one") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReadConfIncludeErrors(t *testing.T) {
	dir := write(t, map[string]string{
		"missing":    "a = 1\ninclude 'none'",
		"missingdir": "include_dir 'none'",
		"itself":     "include './itself'",
		"empty":      "include ''",
		"blank":      "include_dir ' \t'",
		"ping":       "include 'pong'",
		"pong":       "include 'ping'",
		"broken":     "include 'bad'",
		"optional":   "include_if_exists 'bad'",
		"bad":        "\n\n=",
		"pipe":       "include 'fifo'",
		"bomb":       strings.Repeat("include 'bomb2'\n", 50),
		"bomb2":      strings.Repeat("include 'bomb'\n", 50),
	})
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"missing": "line 2: include: ", "missingdir": "line 1: include_dir: ", "itself": "includes itself",
		"empty": "no file name", "blank": "no file name", "ping": "too many includes", "bomb": "too many includes",
		"broken": "bad, line 3", "optional": "bad, line 3", "pipe": "not a regular file", "none": "none",
	} {
		got, err := ReadConf(filepath.Join(dir, file))
		if err == nil || got != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want an error with %q", file, got, err, want)
		}
		if absent := file == "missing" || file == "missingdir" || file == "none"; errors.Is(err, fs.ErrNotExist) != absent {
			t.Errorf("%s: errors.Is(%v, fs.ErrNotExist) = %v", file, err, !absent)
		}
	}
}

func TestParseBool(t *testing.T) {
	for s, want := range map[string]string{
		"true": "on", "TRUE": "on", "t": "on", "Tr": "on", "yes": "on", "y": "on", "on": "on", "ON": "on", "1": "on",
		"false": "off", "f": "off", "no": "off", "n": "off", "off": "off", "of": "off", "0": "off",
		"": "bad", "o": "bad", "truex": "bad", "onn": "bad", "10": "bad", " on": "bad", "2": "bad",
	} {
		got := "bad"
		if on, ok := parseBool(s); ok {
			got = map[bool]string{true: "on", false: "off"}[on]
		}
		if got != want {
			t.Errorf("parseBool(%q) = %s, want %s", s, got, want)
		}
	}
}

func FuzzReadConf(f *testing.F) {
	for _, s := range []string{"a = 1\n", "a.b 'it''s' # c", `x = '\101'`, "a = 1.5e3\r\n\xe9 = u-f", "include 'x'", "'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(lower(text), "include") {
			return // reads other files
		}
		var r confReader
		if err := r.parse("/c", text, 0); err != nil {
			if !strings.HasPrefix(err.Error(), "/c, line ") {
				t.Fatal(err)
			}
			return
		}
		// What was understood can be written down and is understood again.
		var b strings.Builder
		for _, s := range r.settings {
			fmt.Fprintf(&b, "%s = '%s'\n", s.Name, strings.NewReplacer("'", "''", `\`, `\\`, "\n", `\n`).Replace(s.Value))
		}
		var again confReader
		if err := again.parse("/c", b.String(), 0); err != nil || len(again.settings) != len(r.settings) {
			t.Fatalf("%q, from %q: %v", b.String(), text, err)
		}
		for i, s := range r.settings {
			if a := again.settings[i]; a.Name != s.Name || a.Value != s.Value {
				t.Fatalf("%+v became %+v", s, a)
			}
		}
	})
}
