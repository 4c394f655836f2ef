package integration_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testsshd"
)

var crowdTime = flag.Duration("crowd", 2*time.Second, "how long each crowd of TestCrowd is at work")

// crowd is how many push and as many fetch.
const crowd = 24

// A crowd pushes into one archive, and another one fetches what has been pushed, all
// at once. Not one call fails, what is fetched is what was pushed, and in the end
// all of it is there and sound. With an agent even an sshd that takes two logins at
// a time, where it usually takes ten, has none to turn away.
func TestCrowd(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		startups string
		agent    string
	}{
		"agent": {"2:100:2", "auto"},
		"alone": {"200", "off"},
	} {
		t.Run(name, func(t *testing.T) {
			server := testsshd.Start(t, testsshd.Options{Config: []string{"MaxStartups " + x.startups}})
			c, root := hostileData(t), t.TempDir()
			agents := filepath.Join(t.TempDir(), "agent")
			env := hostileSFTP(server, root).with("WALSHIP_AGENT", x.agent, "WALSHIP_AGENT_DIR", agents, "HOME", t.TempDir())
			c.must(0, env, "init")
			c.mode("archive recovery") // who fetches then has patience
			t.Cleanup(func() { c.run(env, "agent", "stop") })
			path, first, _ := c.addSegment(1, 1)
			c.must(0, env, "push", path, first)
			if x.agent == "auto" { // which that has started
				hostileWait(t, "the agent", func() bool {
					return strings.Contains(c.run(env, "agent", "status", "--json").text(), `"connected": true`)
				})
			}

			w := &crowded{t: t, c: c, env: env, end: time.Now().Add(*crowdTime), last: 1, pushed: []int{1}}
			var all sync.WaitGroup
			for k := range crowd {
				all.Go(w.push)
				all.Go(func() { w.fetch(k) })
			}
			all.Wait()
			t.Logf("%d segments pushed, %d fetched", len(w.pushed), w.fetched)
			if len(w.pushed) <= crowd || w.fetched < crowd {
				t.Errorf("only %d were pushed and %d fetched", len(w.pushed), w.fetched)
			}
			for _, n := range w.pushed {
				if _, err := os.Stat(c.stored(root, c.name(n)) + ".zst"); err != nil {
					t.Error(err)
				}
			}
			if text := c.must(0, env, "verify").text(); !strings.Contains(text, fmt.Sprintf("read %d files", len(w.pushed))) {
				t.Errorf("verify knows of another number than %d:\n%s", len(w.pushed), text)
			}
			log := server.Log()
			t.Logf("%d logins", strings.Count(log, "Accepted publickey"))
			if strings.Contains(log, "MaxStartups throttling") || strings.Contains(log, "drop connection") {
				t.Errorf("sshd has turned logins away:\n%s", log)
			}
			if n := strings.Count(log, "Accepted publickey"); x.agent == "auto" && n > 20 {
				t.Errorf("with an agent there were %d logins", n)
			}
		})
	}
}

// crowded is what a crowd works on.
type crowded struct {
	t   *testing.T
	c   *hostileCluster
	env hostileEnv
	end time.Time

	mu      sync.Mutex
	last    int   // the number that somebody pushes last
	pushed  []int // numbers
	fetched int
}

// call is the outcome of one call of the binary that has to end well.
func (w *crowded) call(args ...string) bool {
	p := hostileStart(w.t, testbin.Walship(w.t), w.c.Dir, w.env, args...)
	select {
	case <-p.done:
	case <-time.After(hostileLimit):
		w.t.Errorf("%q has not ended after %s", args, hostileLimit)
		return false
	}
	if p.code != 0 {
		w.t.Errorf("%q: code %d: %s", args, p.code, p.text())
	}
	return p.code == 0
}

// push pushes one segment after another.
func (w *crowded) push() {
	for again := true; again; again = time.Now().Before(w.end) {
		w.mu.Lock()
		w.last++
		n := w.last
		w.mu.Unlock()
		name := w.c.name(n)
		path := filepath.Join(w.c.Dir, "pg_wal", name)
		if err := os.WriteFile(path, w.c.segment(n, byte(n)), 0o600); err != nil {
			w.t.Error(err)
			return
		}
		if !w.call("push", "pg_wal/"+name, name) {
			return
		}
		w.mu.Lock()
		w.pushed = append(w.pushed, n)
		w.mu.Unlock()
		os.Remove(path)
	}
}

// fetch fetches some of what has been pushed, and compares.
func (w *crowded) fetch(k int) {
	path := fmt.Sprintf("pg_wal/fetched%d", k)
	for again := true; again; again = time.Now().Before(w.end) {
		w.mu.Lock()
		n := w.pushed[rand.IntN(len(w.pushed))]
		w.mu.Unlock()
		if !w.call("fetch", w.c.name(n), path) {
			return
		}
		got, err := os.ReadFile(filepath.Join(w.c.Dir, path))
		if err != nil || !bytes.Equal(got, w.c.segment(n, byte(n))) {
			w.t.Errorf("%s came back as %d other bytes, %v", w.c.name(n), len(got), err)
			return
		}
		w.mu.Lock()
		w.fetched++
		w.mu.Unlock()
		os.Remove(filepath.Join(w.c.Dir, path))
	}
}
