package integration_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testsshd"
)

// Fetch never delivers wrong bytes: a stored file that was altered, cut short,
// emptied or swapped is doubt, and the message names it.

// damaged is what fetch of the name does now, in archive recovery: an error if
// it delivers other bytes than these, or fails without naming the stored file.
// It may run beside others.
func (c *hostileCluster) damaged(env hostileEnv, name, stored, target string, content []byte) (delivered bool, err error) {
	p := hostileStart(c.t, testbin.Walship(c.t), c.Dir, env, "fetch", name, target)
	<-p.done
	got, readErr := os.ReadFile(filepath.Join(c.Dir, target))
	os.Remove(filepath.Join(c.Dir, target))
	switch {
	case p.code == 0 && !bytes.Equal(got, content):
		return true, fmt.Errorf("0 with %d other bytes", len(got))
	case p.code == 0:
		return true, nil
	case p.code != 126:
		return false, fmt.Errorf("code %d: %s", p.code, p.text())
	case readErr == nil:
		return false, fmt.Errorf("126, and yet %s is there", target)
	case !strings.Contains(p.text(), filepath.Base(stored)) || !strings.Contains(p.text(), "damaged"):
		return false, fmt.Errorf("the message does not name %s: %s", filepath.Base(stored), p.text())
	}
	return false, hostileLines(p.text())
}

// hostileArchived makes an archive of the codec in a local folder, with a real
// server's segment in it, for a server in archive recovery.
func hostileArchived(t *testing.T, codec string) (c *hostileCluster, env hostileEnv, name, stored string, content []byte) {
	t.Helper()
	c = hostileData(t)
	env = hostileFile(t.TempDir())
	root := strings.TrimPrefix(env["WALSHIP_ARCHIVE"], "file://")
	c.must(0, env.with("WALSHIP_CODEC", codec), "init")
	name = "000000010000000000000006"
	content = c.fixture(name)
	c.must(0, env, "push", c.add(name, content), name)
	stored, _, err := c.archived(root, name)
	hostileOK(t, err)
	c.mode("archive recovery")
	return c, env, name, stored, content
}

// Each single flipped bit, in a sample of the file: the head, the tail and
// places between. A flip that changes no content, as of a time that gzip's
// header holds, may be delivered, and then whole.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"zstd", "gzip", "none"} {
		c, env, name, stored, content := hostileArchived(t, codec)
		sound, err := os.ReadFile(stored)
		hostileOK(t, err)
		root := strings.TrimPrefix(env["WALSHIP_ARCHIVE"], "file://")

		// Some at once, each with an archive of its own, a copy that shares the rest.
		offsets := make(chan int)
		var workers sync.WaitGroup
		var mu sync.Mutex
		harmless := 0
		for w := range 4 {
			copied := filepath.Join(t.TempDir(), "archive")
			hostileOK(t, os.CopyFS(copied, os.DirFS(root)))
			file := c.stored(copied, name) + filepath.Ext(stored)
			target := fmt.Sprintf("pg_wal/RECOVERYXLOG.%d", w)
			workers.Go(func() {
				for at := range offsets {
					altered := bytes.Clone(sound)
					altered[at] ^= 1 << (at % 8)
					if err := os.WriteFile(file, altered, 0o600); err != nil {
						t.Error(err)
					}
					delivered, err := c.damaged(hostileFile(copied), name, stored, target, content)
					if err != nil {
						t.Errorf("%s, bit %d of byte %d of %d: %v", codec, at%8, at, len(sound), err)
					}
					if delivered {
						mu.Lock()
						harmless++
						mu.Unlock()
					}
				}
			})
		}
		r := rand.New(rand.NewPCG(1, 2))
		for at := range 16 { // internal/stored tries them all
			offsets <- at
			offsets <- len(sound) - 1 - at
		}
		for range 40 {
			offsets <- r.IntN(len(sound))
		}
		close(offsets)
		workers.Wait()
		t.Logf("%s: %d bytes, 72 flips, %d of them harmless", codec, len(sound), harmless)
		if harmless > 12 { // most are in the head of gzip
			t.Errorf("%s: %d of 72 flips were not noticed", codec, harmless)
		}
	}
}

// Truncation at several lengths, a file of zero bytes, bytes behind the end,
// a file of zeros.
func TestTruncated(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, codec := range []string{"zstd", "gzip", "none"} {
		c, env, name, stored, content := hostileArchived(t, codec)
		sound, err := os.ReadFile(stored)
		hostileOK(t, err)
		n := len(sound)
		altered := map[string][]byte{
			"empty":        {},
			"longer":       append(bytes.Clone(sound), 0),
			"twice":        append(bytes.Clone(sound), sound...),
			"zeros":        make([]byte, n),
			"zeros behind": append(bytes.Clone(sound[:n/2]), make([]byte, n-n/2)...),
			"half a head":  sound[min(n, 256):],
		}
		for _, at := range []int{1, 3, 4, 8, 40, 100, 511, 512, 513, 1000, n / 2, n - 1000, n - 1} {
			altered[fmt.Sprintf("cut to %d of %d bytes", at, n)] = sound[:at]
		}
		maps.DeleteFunc(altered, func(_ string, b []byte) bool { return bytes.Equal(b, sound) }) // zeros behind, where there are zeros
		stores := map[string]hostileEnv{"file": env}
		root := strings.TrimPrefix(env["WALSHIP_ARCHIVE"], "file://")
		stores["sftp"] = hostileSFTP(server, root)
		for what, bytes := range altered {
			hostileOK(t, os.WriteFile(stored, bytes, 0o600))
			for store, env := range stores {
				if delivered, err := c.damaged(env, name, stored, "pg_wal/RECOVERYXLOG", content); err != nil || delivered {
					t.Errorf("%s, %s, %s: delivered %t: %v", codec, store, what, delivered, err)
				}
			}
		}
	}
}

// Two files that have changed places: each carries its name, a segment in its
// page header, and all of them in their record if the codec has one.
func TestSwapped(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"zstd", "gzip", "none"} {
		c, env, name, stored, _ := hostileArchived(t, codec)
		other := c.name(7)
		c.must(0, env, "push", c.add(other, c.segment(7, 1)), other)
		otherStored := filepath.Join(filepath.Dir(stored), other+filepath.Ext(stored))
		pairs := [][2][2]string{{{name, stored}, {other, otherStored}}}
		env["WALSHIP_HEADER_CHECK"] = "off"
		folder := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(stored))), "history")
		var histories [2][2]string
		for i, name := range []string{"00000002.history", "00000003.history"} {
			c.must(0, env, "push", "--no-clone-guard", c.add(name, fmt.Appendf(nil, "1\t0/%d000000\tx\n", i+8)), name)
			histories[i] = [2]string{name, filepath.Join(folder, name+filepath.Ext(stored))}
		}
		hostileOK(t, os.RemoveAll(filepath.Join(c.Dir, "pg_wal")))
		hostileOK(t, os.Mkdir(filepath.Join(c.Dir, "pg_wal"), 0o700))
		pairs = append(pairs, histories)
		for _, pair := range pairs {
			hostileOK(t, os.Rename(pair[0][1], stored+".x"))
			hostileOK(t, os.Rename(pair[1][1], pair[0][1]))
			hostileOK(t, os.Rename(stored+".x", pair[1][1]))
			for _, swapped := range pair {
				if delivered, err := c.damaged(env, swapped[0], swapped[1], "pg_wal/RECOVERYXLOG", nil); err != nil || delivered {
					t.Errorf("%s, %s: delivered %t: %v", codec, swapped[0], delivered, err)
				}
			}
		}
	}
}

// A history file and a segment that were swapped, and another cluster's files
// of the same names.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	for _, codec := range []string{"zstd", "gzip", "none"} {
		c, env, name, stored, content := hostileArchived(t, codec)
		root := strings.TrimPrefix(env["WALSHIP_ARCHIVE"], "file://")
		history := c.fixture("00000002.history")
		c.must(0, env, "push", "--no-clone-guard", c.add("00000002.history", history), "00000002.history")
		storedHistory, err := filepath.Glob(filepath.Join(root, "*", "history", "00000002.history*"))
		hostileOK(t, err)

		big := hostileBig(t)
		bigPath, bigName, _ := big.addSegment(6, 1)
		bigEnv := hostileFile(t.TempDir())
		big.must(0, bigEnv.with("WALSHIP_CODEC", codec), "init")
		big.must(0, bigEnv, "push", bigPath, bigName)
		foreign, _, err := big.archived(strings.TrimPrefix(bigEnv["WALSHIP_ARCHIVE"], "file://"), bigName)
		hostileOK(t, err)

		sound, err := os.ReadFile(stored)
		hostileOK(t, err)
		for what, from := range map[string]string{"a history": storedHistory[0], "another cluster's": foreign} {
			b, err := os.ReadFile(from)
			hostileOK(t, err)
			hostileOK(t, os.WriteFile(stored, b, 0o600))
			if delivered, err := c.damaged(env, name, stored, "pg_wal/RECOVERYXLOG", content); err != nil || delivered {
				t.Errorf("%s, %s: delivered %t: %v", codec, what, delivered, err)
			}
		}
		hostileOK(t, os.WriteFile(stored, sound, 0o600))
		hostileOK(t, os.WriteFile(storedHistory[0], sound, 0o600))
		if delivered, err := c.damaged(env, "00000002.history", storedHistory[0], "pg_wal/RECOVERYHISTORY", history); err != nil || delivered {
			t.Errorf("%s, a segment as a history: delivered %t: %v", codec, delivered, err)
		}
	}
}

// A file that another tool has left plain in a flat folder has nothing that
// vouches for it. Its length and the header of its first page are checked: each
// field that names the segment, its cluster and its place. A bit that flips
// behind the header is not seen here; the checksum that PostgreSQL keeps in
// every WAL record is what tells it then. The README says so.
func TestFlatFilesAreCheckedByHeader(t *testing.T) {
	t.Parallel()
	c, _, name, _, sound := hostileArchived(t, "none")
	content := sound
	root := t.TempDir()
	env := hostileFile(root)
	hostileOK(t, os.WriteFile(filepath.Join(root, c.name(9)), c.segment(9, 1), 0o600)) // tells whose folder it is
	stored := filepath.Join(root, name)
	for field, at := range map[string][2]int{"magic": {0, 2}, "timeline": {5, 8}, "address": {8, 16}, "system identifier": {24, 32}, "segment size": {32, 36}} {
		for byte := at[0]; byte < at[1]; byte++ {
			for bit := range 8 {
				if bit%3 != byte%3 {
					continue // a third of them
				}
				altered := bytes.Clone(sound)
				altered[byte] ^= 1 << bit
				hostileOK(t, os.WriteFile(stored, altered, 0o600))
				if delivered, err := c.damaged(env, name, stored, "pg_wal/RECOVERYXLOG", content); err != nil || delivered {
					t.Errorf("%s, bit %d of byte %d: delivered %t: %v", field, bit, byte, delivered, err)
				}
			}
		}
	}
}
