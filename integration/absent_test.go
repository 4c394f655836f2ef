package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"walship/internal/testsshd"
)

// An archive that does not show itself to be this cluster's: its folder is
// absent or empty, as when a disk is not mounted, or is another cluster's; its
// walship.json is missing, empty, garbled or cut short.

// hostileRuins are the ways in which an archive may be none. ruin makes one of
// root, where c's archive is.
func hostileRuins(t *testing.T, c *hostileCluster) []hostileRuin {
	folder := strconv.FormatUint(c.ID, 10)
	identity := func(content string) func(string) error {
		return func(root string) error {
			return os.WriteFile(filepath.Join(root, folder, "walship.json"), []byte(content), 0o600)
		}
	}
	return []hostileRuin{
		{"the root is absent", "does not exist", os.RemoveAll},
		{"the root is empty", "is empty", func(root string) error { return os.RemoveAll(filepath.Join(root, folder)) }},
		{"another cluster's", "holds cluster 7000000000000000001", func(root string) error {
			return os.Rename(filepath.Join(root, folder), filepath.Join(root, "7000000000000000001"))
		}},
		{"something else", "", func(root string) error {
			return os.Rename(filepath.Join(root, folder), filepath.Join(root, "photos"))
		}},
		{"another cluster's under our name", "cluster 7000000000000000001", func(root string) error {
			file := filepath.Join(root, folder, "walship.json")
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			return os.WriteFile(file, bytes.Replace(b, []byte(folder), []byte("7000000000000000001"), 1), 0o600)
		}},
		{"walship.json is missing", "walship.json", func(root string) error {
			return os.Remove(filepath.Join(root, folder, "walship.json"))
		}},
		{"walship.json is empty", "not whole", identity("")},
		{"walship.json is garbage", "walship.json", identity("\x00\x1b[31m\xff{{{")},
		{"walship.json is cut short", "not whole", func(root string) error {
			return os.Truncate(filepath.Join(root, folder, "walship.json"), 60)
		}},
		{"walship.json is of a later format", "newer", identity(`{"format_version": 99}`)},
	}
}

type hostileRuin struct {
	what string
	says string // part of the message
	ruin func(root string) error
}

func TestNotThisClustersArchive(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		c := hostileData(t)
		path, name, _ := c.addSegment(1, 1)
		for _, r := range hostileRuins(t, c) {
			root := filepath.Join(t.TempDir(), "archive")
			env := hostileFile(root)
			if store == "sftp" {
				env = hostileSFTP(server, root)
			}
			c.mode("ending")
			c.must(0, env, "init")
			c.must(0, env, "push", path, name)
			hostileOK(t, r.ruin(root))
			before := ""
			if _, err := os.Stat(root); err == nil {
				before = hostileTree(t, root)
			}

			p := c.run(env, "push", path, name)
			t.Logf("%s, %s: %d\n%s", store, r.what, p.code, p.text())
			if p.code != 7 {
				t.Errorf("%s, %s: push: code %d instead of 7", store, r.what, p.code)
			}
			if !strings.Contains(p.text(), r.says) || !strings.Contains(p.text(), "hint: ") {
				t.Errorf("%s, %s: push does not tell the likely cause: %s", store, r.what, p.text())
			}
			if err := hostileLines(p.text()); err != nil {
				t.Errorf("%s, %s: push: %v", store, r.what, err)
			}

			for mode, want := range map[string]int{"archive recovery": 126, "standby": 1, "ending": 1} {
				c.mode(mode)
				for _, asked := range []string{name, c.name(2), "00000002.history"} {
					if err := c.doubt(want, env, asked); err != nil {
						t.Errorf("%s, %s, %s, %s: %v", store, r.what, mode, asked, err)
					}
				}
			}
			if _, err := os.Stat(root); err == nil && hostileTree(t, root) != before {
				t.Errorf("%s, %s: the archive has changed", store, r.what)
			} else if err != nil && before != "" {
				t.Errorf("%s, %s: the archive is gone", store, r.what)
			}
		}
	}
}

// doubt fetches the name, and returns an error unless the answer is this code,
// a message, and no file.
func (c *hostileCluster) doubt(want int, env hostileEnv, name string) error {
	target := filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG")
	p := c.run(env, "fetch", name, "pg_wal/RECOVERYXLOG")
	if _, err := os.Stat(target); err == nil {
		os.Remove(target)
		return fmt.Errorf("code %d, and a file was delivered: %s", p.code, p.text())
	}
	switch {
	case p.code != want:
		return fmt.Errorf("code %d instead of %d: %s", p.code, want, p.text())
	case p.text() == "":
		return fmt.Errorf("code %d without a word", p.code)
	case want == 1 && !strings.HasPrefix(p.text(), "walship: warning: "):
		return fmt.Errorf("no warning: %s", p.text())
	}
	return hostileLines(strings.Replace(p.text(), "walship: warning: ", "walship: ", 1))
}

// A folder of the archive is missing, and its walship.json is there: what it
// held nobody knows.
func TestFolderMissing(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		if store == "sftp" {
			env = hostileSFTP(server, root)
		}
		path, name, content := c.addSegment(1, 1)
		c.must(0, env, "init")
		c.must(0, env, "push", path, name)
		cluster := filepath.Dir(c.tmp(root))
		for folder, asked := range map[string]string{"wal": name, "history": "00000002.history"} {
			hostileOK(t, os.Rename(filepath.Join(cluster, folder), filepath.Join(cluster, "gone")))
			for mode, want := range map[string]int{"archive recovery": 126, "standby": 1, "ending": 1} {
				c.mode(mode)
				if err := c.doubt(want, env, asked); err != nil {
					t.Errorf("%s, %s is missing, %s: %v", store, folder, mode, err)
				}
			}
			hostileOK(t, os.Rename(filepath.Join(cluster, "gone"), filepath.Join(cluster, folder)))
			// With the folder the same questions have answers again.
			c.mode("archive recovery")
			if p := c.run(env, "fetch", "00000002.history", "pg_wal/RECOVERYHISTORY"); p.code != 1 || p.text() != "" {
				t.Errorf("%s: a healthy archive: code %d: %s", store, p.code, p.text())
			}
		}
		// Push makes the folders that it needs: it knows what it stores.
		hostileOK(t, os.RemoveAll(filepath.Join(cluster, "wal")))
		c.must(0, env, "push", path, name)
		hostileOK(t, c.holds(root, name, content))
	}
}

// A stored file that is empty or cut short is not confirmed when its segment is
// pushed again: it is moved away, the segment is stored anew, and push says so.
func TestTornFileIsPutRight(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		for _, codec := range []string{"zstd", "gzip", "none"} {
			c, root := hostileData(t), t.TempDir()
			env := hostileFile(root)
			if store == "sftp" {
				env = hostileSFTP(server, root)
			}
			c.must(0, env.with("WALSHIP_CODEC", codec), "init")
			path, name, content := c.addSegment(1, 1)
			c.must(0, env, "push", path, name)
			stored, _, err := c.archived(root, name)
			hostileOK(t, err)
			sound, err := os.Stat(stored)
			hostileOK(t, err)
			sizes := []int64{0, 1, 100, 700, sound.Size() / 2, sound.Size() - 1}
			for _, size := range sizes {
				hostileOK(t, os.Truncate(stored, size))
				p := c.must(0, env, "push", path, name)
				if size == 0 {
					t.Logf("%s, %s:\n%s", store, codec, p.text())
				}
				for _, word := range []string{"warning", "damaged", filepath.Base(stored), "refused/"} {
					if !strings.Contains(p.text(), word) {
						t.Errorf("%s, %s, cut to %d: the message lacks %q: %s", store, codec, size, word, p.text())
					}
				}
				if err := c.holds(root, name, content); err != nil {
					t.Errorf("%s, %s, cut to %d: %v", store, codec, size, err)
				}
			}
			if kept, _ := filepath.Glob(filepath.Join(filepath.Dir(c.tmp(root)), "refused", "*.damaged")); len(kept) != len(sizes) {
				t.Errorf("%s, %s: of %d damaged files %d are kept: %v", store, codec, len(sizes), len(kept), kept)
			}
			if p := c.must(0, env, "push", path, name); p.text() != "" {
				t.Errorf("%s, %s: in the end it is whole, and yet: %s", store, codec, p.text())
			}
		}
	}
}
