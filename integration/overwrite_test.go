package integration_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// hostilePutSteps are the steps of a push at which it may be broken off.
var hostilePutSteps = []string{"put.created", "put.written", "put.synced", "put.published", "put.folder-synced"}

// The same content again is success, and nothing is uploaded: the record at the
// head of the stored file answers for it.
func TestSameContentAgain(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	proxy := testnet.New(t, server.Addr)
	for _, store := range []string{"sftp", "file"} {
		c := hostileData(t)
		root := t.TempDir()
		env := hostileFile(root)
		if store == "sftp" {
			env = hostileVia(t, server, root, proxy.Addr())
		}
		path, name, content := c.addSegment(5, 1)
		c.must(0, env, "init")
		sent := proxy.Bytes(testnet.ToServer)
		c.must(0, env, "push", path, name)
		if cost := proxy.Bytes(testnet.ToServer) - sent; store == "sftp" && cost < 1<<20 {
			t.Fatalf("the proxy does not see the upload: %d bytes", cost)
		}
		stored, _, err := c.archived(root, name)
		hostileOK(t, err)
		before, err := os.Stat(stored)
		hostileOK(t, err)
		for _, codec := range []string{"zstd", "gzip"} {
			sent, got := proxy.Bytes(testnet.ToServer), proxy.Bytes(testnet.ToClient)
			if again := c.must(0, env.with("WALSHIP_CODEC", codec), "push", path, name); again.text() != "" {
				t.Errorf("%s: the second push says %q", store, again.text())
			}
			sent, got = proxy.Bytes(testnet.ToServer)-sent, proxy.Bytes(testnet.ToClient)-got
			if sent > 32<<10 || got > 32<<10 {
				t.Errorf("%s, %s: the second push sent %d bytes and read %d", store, codec, sent, got)
			}
		}
		after, err := os.Stat(stored)
		hostileOK(t, err)
		if !os.SameFile(before, after) || before.ModTime() != after.ModTime() {
			t.Errorf("%s: the stored file is another one", store)
		}
		hostileOK(t, c.holds(root, name, content))
		if left := c.left(root); len(left) > 0 {
			t.Errorf("%s: temporary files: %v", store, left)
		}
	}
}

// Other content under an archived name is refused, with both hashes.
func TestOtherContentIsRefused(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		for _, codec := range []string{"zstd", "gzip", "none"} {
			c := hostileData(t)
			root := t.TempDir()
			env := hostileFile(root)
			if store == "sftp" {
				env = hostileSFTP(server, root)
			}
			path, name, first := c.addSegment(5, 1)
			c.must(0, env.with("WALSHIP_CODEC", codec), "init")
			c.must(0, env, "push", path, name)
			before := hostileTree(t, root)
			_, _, second := c.addSegment(5, 2)
			p := c.must(5, env, "push", path, name)
			t.Logf("%s, %s:\n%s", store, codec, p.text())
			hostileOK(t, hostileLines(p.text()))
			for _, content := range [][]byte{first, second} {
				if hash := fmt.Sprintf("%x", sha256.Sum256(content)); !strings.Contains(p.text(), hash) {
					t.Errorf("%s, %s: the message does not name %s", store, codec, hash)
				}
			}
			if after := hostileTree(t, root); before != after {
				t.Errorf("%s, %s: the archive has changed:\n%s%s", store, codec, before, after)
			}
		}
	}
}

// Two pushers of one name at once: one is frozen at each step of its push and
// goes on when the other has ended.
func TestTwoPushersSFTP(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	c, root := hostileData(t), t.TempDir()
	hostileRaces(t, c, root, hostileSFTP(server, root), [2]string{"zstd", "zstd"}, [2]string{"gzip", "zstd"})
}

func TestTwoPushersFile(t *testing.T) {
	t.Parallel()
	c, root := hostileData(t), t.TempDir()
	hostileRaces(t, c, root, hostileFile(root), [2]string{"zstd", "zstd"}, [2]string{"gzip", "zstd"}, [2]string{"zstd", "gzip"})
}

func hostileRaces(t *testing.T, c *hostileCluster, root string, env hostileEnv, both ...[2]string) {
	c.must(0, env.with("WALSHIP_CODEC", "zstd"), "init")
	number := 0
	for _, step := range hostilePutSteps {
		for _, codecs := range both {
			for _, same := range []bool{true, false} {
				number++
				r := hostileRace{step: step, number: number, same: same,
					frozen: env.with("WALSHIP_CODEC", codecs[0]), other: env.with("WALSHIP_CODEC", codecs[1])}
				if err := c.race(root, r); err != nil {
					t.Errorf("frozen at %s, codecs %v, same content %t: %v", step, codecs, same, err)
				}
			}
		}
	}
}

// hostileRace is two pushes of one name.
type hostileRace struct {
	step          string // at which the first one is frozen
	number        int    // of the segment
	same          bool   // both push the same content
	frozen, other hostileEnv
	broken        string // more faults of the frozen one
}

// race lets both pushes run and returns what is wrong with the outcome.
func (c *hostileCluster) race(root string, r hostileRace) error {
	path, name, ours := c.addSegment(r.number, 1)
	theirs := ours
	if !r.same {
		theirs = c.segment(r.number, 2)
	}
	otherPath := filepath.Join(c.t.TempDir(), name)
	hostileOK(c.t, os.WriteFile(otherPath, theirs, 0o600))

	frozen := c.stoppable(r.frozen.with("WALSHIP_FAULT", r.step+"=stop"+r.broken), "push", path, name)
	if !frozen.stopped(c.t) {
		return fmt.Errorf("it ended with %d and never came to %s: %s", frozen.code, r.step, frozen.text())
	}
	other := c.run(r.other, "push", otherPath, name)
	stored, _, err := c.archived(root, name)
	if err != nil {
		return fmt.Errorf("after the other push (code %d): %w", other.code, err)
	}
	before, err := os.Stat(stored)
	if err != nil {
		return err
	}
	frozen.resume(c.t)

	stored, content, err := c.archived(root, name)
	if err != nil {
		return err
	}
	after, err := os.Stat(stored)
	if err != nil {
		return err
	}
	codes := fmt.Sprintf("codes %d and %d\n%s%s", frozen.code, other.code, frozen.text(), other.text())
	switch {
	case !os.SameFile(before, after):
		return fmt.Errorf("the stored file was replaced: %s", codes)
	case frozen.code == 0 && !bytes.Equal(content, ours), other.code == 0 && !bytes.Equal(content, theirs):
		return fmt.Errorf("a false 0: %s", codes)
	case r.same && (frozen.code != 0 || other.code != 0):
		return fmt.Errorf("the same content is no conflict: %s", codes)
	case !r.same && frozen.code+other.code != 5:
		return fmt.Errorf("one should be stored and the other one refused: %s", codes)
	}
	if left := c.left(root); len(left) > 0 {
		return fmt.Errorf("temporary files: %v (%s)", left, codes)
	}
	return nil
}
