package pgconf

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/pgdata"
)

// A password that is set in whatever file is the one that is found there, and
// every other line stays.
func FuzzPassfile(f *testing.F) {
	f.Add([]byte("*:*:*:walship:old\nhost:5432:*:other:x\n"), "walship", "new")
	f.Add([]byte("no line end"), "a:b", `c\:d`)
	f.Add([]byte{}, "r", "p")
	f.Fuzz(func(t *testing.T, text []byte, role, password string) {
		if role == "" || strings.ContainsAny(role+password, "\r\n") {
			return // setup makes neither
		}
		set := SetPassword(text, role, password)
		if got, found := Password(set, role); !found || got != password {
			t.Errorf("%q, %v in %q", got, found, set)
		}
		own := "*:*:*:" + escapePass(role) + ":"
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimRight(line, "\r\n"); !strings.HasPrefix(line, own) && !bytes.Contains(set, []byte(line)) {
				t.Errorf("%q is gone from %q", line, set)
			}
		}
	})
}

// A journal of whatever content is read whole or refused, and undone only where
// the files are what it says: here there are none, so nothing is.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"version":1,"files":[{"path":"/nowhere/a","after":"00","before":"11","saved":"/nowhere/b"}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"files":null}`))
	f.Add([]byte("{"))
	path := filepath.Join(f.TempDir(), "setup.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(path)
		if err != nil {
			return
		}
		for i := range j.Files { // no file of this machine's
			j.Files[i].Path = filepath.Join(filepath.Dir(path), "absent")
			j.Files[i].Saved = ""
		}
		edits, err := j.Undo("")
		for _, e := range edits {
			if err == nil && e.Changes() && e.New != nil {
				t.Errorf("%q: would write %q", text, e.New)
			}
		}
	})
}

// What setup wrote, setup reads.
func FuzzOwnFile(f *testing.F) {
	f.Add("archive_command", "'/usr/bin/walship' push %p %f", "why")
	f.Add("archive_mode", `on\'`, "")
	f.Fuzz(func(t *testing.T, name, value, why string) {
		if strings.ContainsAny(value+why, "\r\n\x00") {
			return
		}
		text, err := Render(pgdata.Version(150000), []Assignment{{Name: name, Value: value, Why: why}})
		parseOwn([]byte(why + "\n" + name + " = " + value))
		if err != nil {
			return
		}
		for _, a := range parseOwn(text) {
			if a.Name != name || a.Value != value {
				t.Errorf("%q = %q was read back as %q = %q", name, value, a.Name, a.Value)
			}
		}
	})
}
