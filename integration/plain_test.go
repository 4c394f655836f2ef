package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// The archive is plain: the formats' own tools read it, and walship reads what
// they have written.

func TestOwnToolsReadTheArchive(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"zstd", "gzip", "none"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		c.must(0, env.with("WALSHIP_CODEC", codec), "init")
		names := []string{"000000010000000000000005", "000000010000000000000006", "000000010000000000000008.00000028.backup", "00000002.history"}
		for _, name := range names {
			content := c.fixture(name)
			c.must(0, env, "push", c.add(name, content), name)
			stored, err := filepath.Glob(filepath.Join(root, "*", "wal", "*", name+"*"))
			if strings.HasSuffix(name, ".history") {
				stored, err = filepath.Glob(filepath.Join(root, "*", "history", name+"*"))
			}
			stored = slices.DeleteFunc(stored, func(path string) bool { return strings.HasSuffix(path, ".sha256") })
			if err != nil || len(stored) != 1 {
				t.Fatalf("%s, %s: stored as %v: %v", codec, name, stored, err)
			}
			if got, err := hostileContent(stored[0]); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, %s: its tool gives %d bytes of %d: %v", codec, name, len(got), len(content), err)
			}
		}
	}
	// 16 MB are stored in several pieces.
	for _, codec := range []string{"zstd", "gzip"} {
		c, root := hostileBig(t), t.TempDir()
		env := hostileFile(root)
		c.must(0, env.with("WALSHIP_CODEC", codec), "init")
		path, name, content := c.addSegment(3, 1)
		c.must(0, env, "push", path, name)
		hostileOK(t, c.holds(root, name, content))
	}
}

// A flat folder that others have filled, with cp, gzip, zstd or lz4.
func TestForeignFlatFolder(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	c, root := hostileData(t), t.TempDir()
	history := "1\t0/5000000\tno recovery target specified\n"
	contents := map[string][]byte{"00000002.history": []byte(history), "00000003.history": []byte(history)}
	tools := [][]string{nil, {"gzip", "-q"}, {"gzip", "-9q"}, {"zstd", "-q", "--rm"}, {"zstd", "-19q", "--long=27", "--rm"}, {"lz4", "-q", "--rm"}, {"lz4", "-9qBD", "--rm"}}
	for i, tool := range tools {
		name := c.name(i + 1)
		contents[name] = c.segment(i+1, 1)
		hostileOK(t, os.WriteFile(filepath.Join(root, name), contents[name], 0o644))
		hostileTool(t, tool, filepath.Join(root, name))
	}
	for name, tool := range map[string][]string{"00000002.history": {"gzip", "-q"}, "00000003.history": nil} {
		hostileOK(t, os.WriteFile(filepath.Join(root, name), contents[name], 0o644))
		hostileTool(t, tool, filepath.Join(root, name))
	}
	elsewhere := t.TempDir() // for a call by hand
	for store, env := range map[string]hostileEnv{"file": hostileFile(root), "sftp": hostileSFTP(server, root)} {
		for _, mode := range []string{"archive recovery", "standby", "ending", "by hand"} {
			c.mode(mode)
			dir := c.Dir
			if mode == "by hand" {
				dir = elsewhere
			}
			fetch := func(name string) (*hostileCall, []byte) {
				target := filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG")
				// Newer timelines are in this folder, but not all that belongs to them.
				p := hostileStart(t, testbin.Walship(t), dir, env, "fetch", "--no-fork-guard", "--no-gap-guard", name, target)
				p.wait(t)
				got, _ := os.ReadFile(target)
				os.Remove(target)
				return p, got
			}
			for name, content := range contents {
				if p, got := fetch(name); p.code != 0 || !bytes.Equal(got, content) {
					t.Errorf("%s, %s, %s: code %d, %d bytes: %s", store, mode, name, p.code, len(got), p.text())
				}
			}
			if p, _ := fetch(c.name(200)); p.code != 1 {
				t.Errorf("%s, %s: not there: code %d: %s", store, mode, p.code, p.text())
			}
		}
	}

	// In the same folder now a file cut short, and one of zero bytes.
	c.mode("archive recovery")
	for i, ext := range map[int]string{1: "", 2: ".gz", 4: ".zst", 6: ".lz4"} {
		file := filepath.Join(root, c.name(i)+ext)
		info, err := os.Stat(file)
		hostileOK(t, err)
		for _, size := range []int64{info.Size() / 2, 0} {
			hostileOK(t, os.Truncate(file, size))
			if delivered, err := c.damaged(hostileFile(root), c.name(i), file, "pg_wal/RECOVERYXLOG", contents[c.name(i)]); err != nil || delivered {
				t.Errorf("%s of %d bytes: delivered %t: %v", filepath.Base(file), size, delivered, err)
			}
		}
	}
}

// zstd --long refers back over the whole segment, far behind what it remembers
// otherwise.
func TestForeignLongWindow(t *testing.T) {
	t.Parallel()
	c, root := hostileBig(t), t.TempDir()
	name, content := c.name(1), c.segment(1, 1)
	copy(content[12<<20:], content[8192:4<<20])
	file := filepath.Join(root, name)
	hostileOK(t, os.WriteFile(file, content, 0o644))
	hostileTool(t, []string{"zstd", "-q", "--long=27", "--rm"}, file)
	if info, err := os.Stat(file + ".zst"); err != nil || info.Size() > 13<<20 {
		t.Fatalf("the long window is not used: %d bytes, %v", info.Size(), err)
	}
	c.mode("archive recovery")
	c.must(0, hostileFile(root), "fetch", name, "pg_wal/RECOVERYXLOG")
	if got, err := os.ReadFile(filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG")); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes: %v", len(got), err)
	}
}

func hostileTool(t *testing.T, tool []string, file string) {
	t.Helper()
	if tool == nil {
		return
	}
	if tool[0] == "lz4" { // without a second name it writes to a pipe
		tool = append(tool[:len(tool):len(tool)], file, file+".lz4")
	} else {
		tool = append(tool[:len(tool):len(tool)], file)
	}
	if out, err := exec.Command(tool[0], tool[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", tool, err, out)
	}
}

// Only a flat folder that holds WAL of this cluster may say "not there".
func TestFlatFolderOfNobody(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	c := hostileData(t)
	foreign := hostileSegment(c.magic, 1, 5<<20, c.ID+1, c.Size, 1)
	for what, files := range map[string]map[string][]byte{
		"empty":                   {},
		"other things":            {"README": []byte("hello"), "lost+found": nil},
		"another cluster's WAL":   {c.name(5): foreign},
		"names that are not WAL":  {strings.ToLower(c.name(10)): c.segment(10, 1), c.name(5) + ".tmp": c.segment(5, 1)},
		"nothing but a history":   {"00000009.history": []byte("1\t0/5000000\tx\n")},
		"only what has no header": {c.name(5): make([]byte, c.Size)},
	} {
		root := t.TempDir()
		for name, content := range files {
			hostileOK(t, os.WriteFile(filepath.Join(root, name), content, 0o644))
		}
		for store, env := range map[string]hostileEnv{"file": hostileFile(root), "sftp": hostileSFTP(server, root)} {
			for mode, want := range map[string]int{"archive recovery": 126, "standby": 1, "ending": 1} {
				c.mode(mode)
				if err := c.doubt(want, env, c.name(7)); err != nil {
					t.Errorf("%s, %s, %s: %v", what, store, mode, err)
				}
			}
		}
	}
}

// hostileLine returns the restore_command of the page "recovery without
// walship" that contains the word, for the cluster's folder and the ssh options
// instead of the page's.
func hostileLine(t *testing.T, word, folder, target string) string {
	t.Helper()
	page, err := os.ReadFile("../docs/recovery-without-walship.md")
	hostileOK(t, err)
	for _, m := range regexp.MustCompile(`(?m)^    restore_command = '(.*)'$`).FindAllStringSubmatch(string(page), -1) {
		if line := strings.ReplaceAll(m[1], "''", "'"); strings.Contains(line, word) {
			for from, to := range map[string]string{"/srv/wal/ID": folder, "dba@backup.example.com": target} {
				if from == "/srv/wal/ID" && !strings.Contains(line, from) {
					t.Fatalf("the line does not name %s: %s", from, line)
				}
				line = strings.ReplaceAll(line, from, to)
			}
			return line
		}
	}
	t.Fatalf("the page has no restore_command with %q", word)
	return ""
}

// hostileClient is what "ssh" needs in place of HOST, for the server's user.
func hostileClient(t *testing.T, s *testsshd.Server) string {
	t.Helper()
	dir := testpg.Dir(t)
	key, err := os.ReadFile(s.KeyFile)
	hostileOK(t, err)
	hostileOK(t, os.WriteFile(filepath.Join(dir, "key"), key, 0o600))
	config := fmt.Sprintf("Host archive\n HostName %s\n Port %s\n User %s\n IdentityFile %s/key\n IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile %s\n GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n",
		s.Host, s.Port, s.User, dir, s.KnownHosts)
	hostileOK(t, os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600))
	hostileOK(t, testpg.Own(dir))
	return "-F " + dir + "/config archive"
}

// The lines of the page answer as they promise: 1 only for a file that is
// absent, 126 and above for whatever goes wrong.
func TestLinesWithoutWalship(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, word := range []string{"test -s", "ssh "} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		c.must(0, env, "init")
		path, name, content := c.addSegment(1, 1)
		c.must(0, env, "push", path, name)
		history := c.fixture("00000002.history")
		c.must(0, env, "push", "--no-clone-guard", c.add("00000002.history", history), "00000002.history")
		folder := filepath.Dir(c.tmp(root))
		line := hostileLine(t, word, folder, hostileClient(t, server))
		target := filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG")
		ask := func(what, name string, want int, content []byte) {
			t.Helper()
			os.Remove(target)
			command := strings.NewReplacer("%f", name, "%p", "pg_wal/RECOVERYXLOG").Replace(line)
			code, said := hostileShell(c.Dir, command)
			if code != want {
				t.Errorf("%s, %s: code %d instead of %d: %s", word, what, code, want, said)
			}
			if got, _ := os.ReadFile(target); content != nil && !bytes.Equal(got, content) {
				t.Errorf("%s, %s: %d bytes instead of %d", word, what, len(got), len(content))
			}
		}
		ask("a segment", name, 0, content)
		ask("a history", "00000002.history", 0, history)
		ask("an absent segment", c.name(2), 1, nil)
		ask("an absent history", "00000003.history", 1, nil)

		stored := c.stored(root, name) + ".zst"
		sound, err := os.ReadFile(stored)
		hostileOK(t, err)
		hostileOK(t, os.WriteFile(stored, sound[:len(sound)/2], 0o600))
		ask("a file cut short", name, 126, nil)
		hostileOK(t, os.WriteFile(stored, nil, 0o600))
		ask("an empty file", name, 126, nil)
		sound[len(sound)/2] ^= 1
		hostileOK(t, os.WriteFile(stored, sound, 0o600))
		ask("a flipped bit", name, 126, nil)
		if word == "ssh " {
			server.Stop()
			ask("the server is down", name, 126, nil)
			ask("the server is down", c.name(2), 126, nil)
			server.Restart()
		}
		hostileOK(t, os.Rename(filepath.Join(folder, "wal"), filepath.Join(folder, "gone")))
		ask("the folder wal is missing", name, 126, nil)
		hostileOK(t, os.Rename(filepath.Join(folder, "gone"), filepath.Join(folder, "wal")))
		hostileOK(t, os.Rename(root, root+".gone"))
		ask("the archive is not mounted", name, 126, nil)
	}
}

// A real server recovers by the page's lines alone: from the folder to the end
// of the archive, where it begins timeline 2, and over ssh along that.
func TestRecoveryWithoutWalship(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	root := filepath.Join(testpg.Dir(t), "archive")
	bin := testbin.Walship(t)
	archive := " --archive file://" + root
	primary := testpg.New(t, testpg.Options{Conf: map[string]string{
		"archive_mode": "on", "archive_command": bin + " push" + archive + " %p %f"}})
	_, err := primary.Run(bin, "init", "--archive", "file://"+root, "-D", primary.Data)
	hostileOK(t, err)
	hostileOK(t, primary.Start())
	primary.Query("create table t (n int)")
	backup := filepath.Join(primary.Base, "backup")
	hostileOK(t, primary.BaseBackup(backup, false))
	primary.Query("insert into t select generate_series(1, 1000)")
	primary.Archive(time.Minute)
	primary.Query("insert into t select generate_series(1001, 2000)")
	primary.Archive(time.Minute)
	hostileOK(t, primary.Kill9())

	folders, err := filepath.Glob(filepath.Join(root, "[0-9]*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("clusters in the archive: %v, %v", folders, err)
	}
	recover := func(word string, rows string, timeline string) *testpg.Cluster {
		t.Helper()
		c := testpg.Restore(t, backup)
		c.WriteRecovery(false, map[string]string{"recovery_target_timeline": "latest",
			"restore_command": hostileLine(t, word, folders[0], hostileClient(t, server))})
		hostileOK(t, c.Start())
		hostileOK(t, c.WaitPrimary(time.Minute))
		if got := c.Query("select count(*) from t"); got != rows {
			t.Errorf("%s: %s rows instead of %s\n%s", word, got, rows, c.Log())
		}
		if got := c.CurrentWALFile(); !strings.HasPrefix(got, timeline) {
			t.Errorf("%s: it writes %s, not timeline %s", word, got, timeline)
		}
		return c
	}
	second := recover("test -s", "2000", "00000002")
	second.Query("insert into t select generate_series(2001, 3000)")
	second.Archive(time.Minute)
	hostileOK(t, second.Kill9())
	recover("ssh ", "3000", "00000003")
}
