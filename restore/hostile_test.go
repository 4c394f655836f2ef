package restore

import (
	"archive/tar"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/basebackup"
	"walship/internal/stored"
)

// Whatever a backup says that its manifest vouches for: nothing is written
// outside the new folders, and what does not fit is named.
func TestHostileBackups(t *testing.T) {
	outside := t.TempDir()
	write(t, filepath.Join(outside, "victim"), []byte("untouched"))
	as := func(name string) func(*tar.Header) { return func(h *tar.Header) { h.Name = name } }
	sum := basebackup.Sum{1, 2, 3}
	for _, c := range []struct {
		what string
		more []anEntry
		says string // "" if it is restored, without harm
	}{
		{"..", []anEntry{aFile("../victim", "x")}, `path "../victim"`},
		{".. inside", []anEntry{aFile("base/../../victim", "x")}, "path"},
		{"absolute", []anEntry{aFile(outside+"/victim", "x")}, "path"},
		{"unclean", []anEntry{aFile("base//1", "x")}, "path"},
		{"the root", []anEntry{aFile(".", "x")}, ""},
		{"empty", []anEntry{aFile("", "x")}, "path"},
		{"another name in the tar file", []anEntry{{File: aFile("base/a", "").File, content: "x", header: as("../victim")}}, `it has "../victim" where its list names base/a`},
		{"an absolute one in the tar file", []anEntry{{File: aFile("base/a", "").File, content: "x", header: as(outside + "/victim")}}, "where its list names base/a"},
		{"a link out, and a file through it", []anEntry{aLink("way", outside), aFile("way/victim", "x")}, ""},
		{"a link up, and a file through it", []anEntry{aLink("way", "../.."), aFile("way/victim", "x")}, ""},
		{"a link to a link", []anEntry{aLink("base/a", "b"), aLink("base/b", outside), aFile("base/a/victim", "x")}, ""},
		{"a tablespace's link, and a file through it", []anEntry{aLink("pg_tblspc/16384", outside), aFile("pg_tblspc/16384/victim", "x")}, ""},
		{"a file through a file", []anEntry{aFile("base/1/1259/x", "x")}, "base/1/1259"},
		{"twice", []anEntry{aFile("base/1/1259", "other")}, "base/1/1259 comes twice"},
		{"twice in one part", []anEntry{aFile("base/t", "x"), aFile("base/t", "y")}, "base/t comes twice"},
		{"a link in place of a file", []anEntry{aLink("base/1/1259", "PG_VERSION")}, "base/1/1259 comes twice"},
		{"pg_control's other name", []anEntry{aFile(controlAside, "x")}, "comes twice"},
		{"not in the list", []anEntry{{File: aFile("base/extra", "").File, content: "x", unlisted: true}}, "base/extra"},
		{"not in the tar file", []anEntry{{File: aFile("base/lost", "").File, content: "x", untarred: true}}, "base/lost"},
		{"another hash", []anEntry{{File: basebackup.File{Path: "base/a", Mode: 0o600, SHA256: &sum}, content: "x"}}, "base/a has SHA-256"},
		{"another size", []anEntry{{File: basebackup.File{Path: "base/a", Mode: 0o600, Size: 2}, content: "x"}}, "base/a has 1 bytes, its list says 2"},
		{"a huge size", []anEntry{{File: basebackup.File{Path: "base/a", Mode: 0o600, Size: 1 << 50}, content: "x"}}, "no space"},
		{"a negative size", []anEntry{{File: basebackup.File{Path: "base/a", Mode: 0o600, Size: -1}, content: "x"}}, "size -1"},
		{"a file that is a folder in the tar file", []anEntry{{File: aFile("base/a", "").File, header: func(h *tar.Header) { h.Typeflag = tar.TypeDir }}}, "is of tar's type"},
		{"a file that is a device in the tar file", []anEntry{{File: aFile("base/a", "").File, header: func(h *tar.Header) { h.Typeflag = tar.TypeBlock }}}, "is of tar's type"},
		{"a link that leads elsewhere in the tar file", []anEntry{{File: aLink("base/a", "1").File, header: func(h *tar.Header) { h.Linkname = outside }}}, "leads to"},
		{"a mode with set-uid", []anEntry{{File: basebackup.File{Path: "base/a", Mode: 0o4755}, content: "x"}}, ""},
		{"a mode beyond", []anEntry{{File: basebackup.File{Path: "base/a", Mode: 0o100600}, content: "x"}}, "mode"},
		{"an unknown type", []anEntry{{File: basebackup.File{Path: "base/a", Type: "fifo", Mode: 0o600}}}, "type"},
		{"an unknown tablespace", []anEntry{{File: aFile("a", "").File, content: "x", tablespace: 99}}, "unknown tablespace 99"},
	} {
		for _, partFiles := range []int{3, 100} {
			s := newSite(t, fifteen)
			s.segments(1, 6, 7, noon)
			s.backup(aBackup{start: "0/6000028", end: "0/6000100", more: c.more, partFiles: partFiles})
			o := s.options()
			_, _, err := s.restore(o)
			switch {
			case c.says == "" && err != nil && !isDamage(err) && !errors.Is(err, ErrLocal):
				t.Errorf("%s: %v", c.what, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%s: %v, want an error that says %q", c.what, err, c.says)
			}
			if content(t, outside, "victim") != "untouched" || len(treeOf(t, outside)) != 2 {
				t.Fatalf("%s: %v has been written to", c.what, treeOf(t, outside))
			}
			if len(treeOf(t, filepath.Dir(o.Dir))) > 1 {
				for name := range treeOf(t, filepath.Dir(o.Dir)) {
					if name != "." && name != "new" && !strings.HasPrefix(name, "new/") {
						t.Fatalf("%s: it made %s", c.what, name)
					}
				}
			}
			if info, statErr := os.Stat(filepath.Join(o.Dir, "base/a")); statErr == nil && info.Mode()&os.ModeSetuid != 0 {
				t.Errorf("%s: %v", c.what, info.Mode())
			}
			if err != nil {
				s.unfinished(o, c.what)
			}
		}
	}
}

// unfinished fails if the folder could be taken for a whole one.
func (s *site) unfinished(o Options, what string) {
	s.t.Helper()
	if _, err := os.Stat(o.Dir); err != nil {
		return // it was refused before a byte was written
	}
	hasNo(s.t, o.Dir, controlFile)
	m, err := readMark(o.Dir)
	if err != nil || m == nil {
		s.t.Errorf("%s: the folder is not marked: %+v, %v", what, m, err)
	}
}

// A backup whose own files contradict its manifest.
func TestContradictions(t *testing.T) {
	other := newSite(t, small)
	foreign := content(t, other.data.Path, controlFile)
	for what, b := range map[string]struct {
		more    []anEntry
		without string
		edit    func(*basebackup.Manifest)
		says    string
	}{
		"no label":            {without: "backup_label", says: "name no file backup_label"},
		"no pg_control":       {without: controlFile, says: "name no file global/pg_control"},
		"another's control":   {without: controlFile, more: []anEntry{aFile(controlFile, foreign)}, says: "it is of cluster"},
		"a torn control":      {without: controlFile, more: []anEntry{aFile(controlFile, foreign[:100])}, says: "global/pg_control"},
		"another version":     {without: "PG_VERSION", more: []anEntry{aFile("PG_VERSION", "14\n")}, says: `PG_VERSION: "14\n", its manifest says 15`},
		"another start":       {edit: func(m *basebackup.Manifest) { m.StartLSN += 8 }, says: "recovery begins at"},
		"a torn label":        {without: "backup_label", more: []anEntry{aFile("backup_label", "START WAL LOCATION: 0/6")}, says: "backup_label"},
		"more files":          {edit: func(m *basebackup.Manifest) { m.Files++ }, says: "its lists name"},
		"more bytes":          {edit: func(m *basebackup.Manifest) { m.Size++ }, says: "its lists name"},
		"another cluster":     {edit: func(m *basebackup.Manifest) { m.SystemID++ }, says: "of cluster"},
		"another size":        {edit: func(m *basebackup.Manifest) { m.SegmentSize = 1 << 20 }, says: "segments have"},
		"a list left out":     {edit: func(m *basebackup.Manifest) { m.Lists = m.Lists[1:] }, says: "name"},
		"a list twice":        {edit: func(m *basebackup.Manifest) { m.Lists[1] = m.Lists[0] }, says: "listed twice"},
		"a list from outside": {edit: func(m *basebackup.Manifest) { m.Lists[0].Name = "../" + m.Lists[0].Name }, says: "names a file"},
		"no list":             {edit: func(m *basebackup.Manifest) { m.Lists = nil }, says: "no list"},
	} {
		s := newSite(t, fifteen)
		s.segments(1, 6, 7, noon)
		m := s.backup(aBackup{start: "0/6000028", end: "0/6000100", more: b.more, without: []string{b.without}, edit: b.edit})
		o := s.options()
		o.Backup = m.Backup
		_, _, err := s.restore(o)
		if !isDamage(err) || !strings.Contains(err.Error(), b.says) {
			t.Errorf("%s: %v, want damage that says %q", what, err, b.says)
		}
		s.unfinished(o, what)
	}
}

// What a listing tells is refused before a byte is written.
func TestIncomplete(t *testing.T) {
	s := newSite(t, fifteen)
	s.segments(1, 6, 7, noon)
	m := s.backup(aBackup{start: "0/6000028", end: "0/6000100", config: map[string]string{"/etc/postgresql.conf": "x = 1\n"}})
	for _, name := range []string{"base-000002.tar.zst", "base-000005.tar.zst", "files-000002.jsonl.zst", "backup_manifest.zst", "config.tar.zst"} {
		at := path.Join(basebackup.Folder(s.cluster(), m.ID()), name)
		sound, ok := s.store.Bytes(at)
		if !ok {
			t.Fatal(at)
		}
		for _, bad := range [][]byte{nil, {}, sound[:len(sound)-1], append(append([]byte{}, sound...), 0)} {
			s.plant(at, bad)
			if bad == nil {
				if err := s.store.Remove(t.Context(), at); err != nil {
					t.Fatal(err)
				}
			}
			o := s.options()
			if _, err := s.restorer().Plan(t.Context(), o); !isDamage(err) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %d bytes: %v", name, len(bad), err)
			}
			hasNo(t, o.Dir, ".")
			s.plant(at, sound)
		}
	}
}

// A part of another backup in the place of this one's, and the like.
func TestSwapped(t *testing.T) {
	for _, codec := range stored.Written() {
		s := newSite(t, fifteen)
		s.segments(1, 6, 12, noon)
		a := s.backup(aBackup{start: "0/6000028", end: "0/6000100", codec: codec})
		b := s.backup(aBackup{start: "0/8000028", end: "0/8000100", begin: noon.Add(60e9), codec: codec, more: []anEntry{aFile("base/x", "y")}})
		ext := codec.Extension()
		for _, name := range []string{"base-000001.tar" + ext, "base-000005.tar" + ext, "files-000001.jsonl" + ext, "backup_manifest" + ext, basebackup.ManifestFile} {
			from := path.Join(basebackup.Folder(s.cluster(), a.ID()), name)
			at := path.Join(basebackup.Folder(s.cluster(), b.ID()), name)
			sound, _ := s.store.Bytes(at)
			wrong, ok := s.store.Bytes(from)
			if !ok || string(wrong) == string(sound) || codec.IsSealed() && strings.HasPrefix(name, "backup_manifest") {
				continue // the same in both: no swap
			}
			s.plant(at, wrong)
			o := s.options()
			o.Backup = b.Backup
			if _, _, err := s.restore(o); !isDamage(err) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %s: %v", codec, name, err)
			}
			s.unfinished(o, name)
			s.plant(at, sound)
		}
	}
}
