package pgconf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/pgdata"
)

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "<absent>"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func edit(t *testing.T, path, text string) Edit {
	t.Helper()
	e, err := Open(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	e.New = []byte(text)
	return e
}

// The content changes, mode and owner stay, what was there first is kept, once,
// and nothing else is left.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "postgresql.conf")
	put(t, path, "first\n", 0o640)
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 1234, 2345); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"second\n", "third\n"} {
		if err := edit(t, path, text).Write(); err != nil {
			t.Fatal(err)
		}
		if got := get(t, path); got != text {
			t.Errorf("it holds %q", got)
		}
	}
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode() != after.Mode() || owner(before) != owner(after) {
		t.Errorf("mode and owner were %v %v, are %v %v", before.Mode(), owner(before), after.Mode(), owner(after))
	}
	if got := get(t, SavedPath(path)); got != "first\n" {
		t.Errorf("kept is %q", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left: %v", entries)
	}
}

// A link is followed, a file that has changed since it was read is left alone,
// and an edit without a change touches nothing.
func TestWriteCareful(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	put(t, real, "a\n", 0o600)
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	if err := edit(t, link, "b\n").Write(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 || get(t, real) != "b\n" {
		t.Errorf("the link is %v %v, the file holds %q", info, err, get(t, real))
	}
	e := edit(t, real, "mine\n")
	put(t, real, "theirs\n", 0o600)
	if err := e.Write(); !errors.Is(err, ErrChanged) || get(t, real) != "theirs\n" {
		t.Errorf("%v; it holds %q", err, get(t, real))
	}
	unchanged := edit(t, filepath.Join(dir, "none"), "")
	unchanged.New = nil
	if err := unchanged.Write(); err != nil || get(t, unchanged.Path) != "<absent>" {
		t.Errorf("%v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(dir, "folder"), 0); err == nil {
		t.Error("a folder is opened as a file")
	}
}

// Undo puts back what was there first, however often it was changed, refuses
// where somebody else has changed it, and can be repeated.
func TestUndo(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(filepath.Join(dir, "walship", "setup.json"))
	if err != nil {
		t.Fatal(err)
	}
	conf, made, other := filepath.Join(dir, "conf"), filepath.Join(dir, "made"), filepath.Join(dir, "other")
	put(t, conf, "first\n", 0o644)
	put(t, other, "other\n", 0o644)
	write := func(path, text, data string) {
		t.Helper()
		e := edit(t, path, text)
		e.Data = data
		if err := j.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	write(conf, "second\n", "/data")
	write(made, "new\n", "/data")
	write(conf, "third\n", "/data")
	write(made, "newer\n", "/data")
	write(other, "changed\n", "/elsewhere")
	if got := get(t, SavedPath(made)); got != "<absent>" {
		t.Errorf("of a file that setup has made %q is kept", got)
	}

	if j, err = OpenJournal(j.Path); err != nil { // by another process
		t.Fatal(err)
	}
	put(t, conf, "theirs\n", 0o644)
	if _, err := j.Undo("/data"); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), conf) {
		t.Errorf("%v", err)
	}
	put(t, conf, "third\n", 0o644)
	for range 2 {
		edits, err := j.Undo("/data")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range edits {
			if err := e.Write(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if get(t, conf) != "first\n" || get(t, made) != "<absent>" || get(t, other) != "changed\n" {
		t.Errorf("%q %q %q", get(t, conf), get(t, made), get(t, other))
	}
	if err := j.Forget("/data"); err != nil {
		t.Fatal(err)
	}
	if get(t, SavedPath(conf)) != "<absent>" || get(t, SavedPath(other)) != "other\n" {
		t.Error("the saved copies are not as they should be")
	}
	if err := j.Forget(""); err != nil || get(t, j.Path) != "<absent>" {
		t.Errorf("%v; the journal is %q", err, get(t, j.Path))
	}
}

// A crash between the journal and the file leaves an entry whose change has not
// happened: undo takes what is there for what it is.
func TestUndoAfterCrash(t *testing.T) {
	dir := t.TempDir()
	j, err := OpenJournal(filepath.Join(dir, "setup.json"))
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "conf")
	put(t, conf, "first\n", 0o644)
	for _, text := range []string{"second\n", "third\n"} {
		e := edit(t, conf, text)
		if err := j.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	put(t, conf, "second\n", 0o644) // the third was noted, and never written
	edits, err := j.Undo("")
	if err != nil || len(edits) != 1 || string(edits[0].New) != "first\n" {
		t.Errorf("%v %v", edits, err)
	}
}

// Whatever a postgresql.conf looks like, the include goes to its end and every
// other byte stays; its settings stay what they were, as the server reads them.
func TestAddInclude(t *testing.T) {
	for what, text := range map[string]string{
		"empty":              "",
		"plain":              "port = 5432\n",
		"no newline":         "port = 5432",
		"CRLF":               "port = 5432\r\nlisten_addresses = '*'\r\n",
		"duplicates":         "port = 1\nport=2\nPORT 3\n",
		"UTF-8":              "# schöne Grüße\nport = 1\n",
		"Latin-1":            "# sch\xf6ne Gr\xfc\xdfe\napplication_name = 'sch\xf6n'\n",
		"a comment about it": "# include 'walship.conf'\nport = 1\n",
	} {
		got := AddInclude([]byte(text), false)
		if !strings.HasPrefix(string(got), text) || !strings.Contains(string(got), Include) {
			t.Errorf("%s: %q", what, got)
		}
		if again := AddInclude(got, false); string(again) != string(got) {
			t.Errorf("%s: a second time it is %q", what, again)
		}
		if again := AddInclude(append(got, "port = 9\n"...), true); !strings.HasSuffix(strings.TrimRight(string(again), "\r\n"), "port = 9\n"+Include) &&
			!strings.HasSuffix(string(again), "port = 9\n"+Include+"\r\n") {
			t.Errorf("%s: moved it is %q", what, again)
		}
		dir := t.TempDir()
		put(t, filepath.Join(dir, "before.conf"), text, 0o600)
		put(t, filepath.Join(dir, "after.conf"), string(got), 0o600)
		put(t, filepath.Join(dir, OwnFile), "", 0o600)
		before, err1 := pgdata.ReadConf(filepath.Join(dir, "before.conf"))
		after, err2 := pgdata.ReadConf(filepath.Join(dir, "after.conf"))
		if err1 != nil || err2 != nil || len(before) != len(after) {
			t.Errorf("%s: %v %v, %v %v", what, before, err1, after, err2)
			continue
		}
		for i := range before {
			if before[i].Name != after[i].Name || before[i].Value != after[i].Value {
				t.Errorf("%s: %v became %v", what, before[i], after[i])
			}
		}
	}
	for _, same := range []string{"include 'walship.conf'\n", "  INCLUDE = 'walship.conf' # mine\n", "include walship.conf\r\n"} {
		if got := AddInclude([]byte(same), false); string(got) != same {
			t.Errorf("%q became %q", same, got)
		}
	}
}

func TestDiff(t *testing.T) {
	e := Edit{Path: "/c", Old: []byte("1\n2\n3\n4\n5\n6\n7\n8\n9\n"), New: []byte("1\n2\n3\n4\nfive\n6\n7\n8\n9\nten")}
	want := `--- /c
+++ /c
@@ -2,8 +2,9 @@
 2
 3
 4
-5
+five
 6
 7
 8
 9
+ten
\ No newline at end of file
`
	if got := e.Diff(Color{}); got != want {
		t.Errorf("%s", got)
	}
	if got := (Edit{Path: "/c", New: []byte("a\n")}).Diff(Color{}); got != "--- /dev/null\n+++ /c\n@@ -0,0 +1,1 @@\n+a\n" {
		t.Errorf("%s", got)
	}
	secret := Edit{Path: "/c", Old: []byte("hunter1\n"), New: []byte("hunter2\n"), Secret: true}.Diff(ANSI)
	if strings.Contains(secret, "hunter") {
		t.Errorf("a secret is shown: %s", secret)
	}
	if got := (Edit{Path: "/c", New: []byte("\x1b]0;x\x07\n")}).Diff(Color{}); strings.ContainsRune(got, 0x1b) {
		t.Errorf("%q", got)
	}
}
