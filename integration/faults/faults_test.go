//go:build linux

package faults_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"walship/internal/testbin"
)

var (
	histories = flag.Int("histories", 100, "how many random histories")
	firstSeed = flag.Uint64("seed", 1, "the first one's seed")
	agent     = flag.Bool("agent", false, "let each actor's calls of the binary share an agent")
	verbose   = flag.Bool("tell", false, "tell every history, also those in which nothing broke")
)

func TestMain(m *testing.M) {
	defer testbin.Clean()
	flag.Parse()
	// Most of a history is waiting for what has fallen silent.
	must(nil, flag.Set("test.parallel", "8"))
	m.Run()
}

// Whatever goes wrong: nothing that was acknowledged is missing or has changed
// (a), nothing is incomplete under a final name (b), nothing is delivered that was not
// pushed (c), archive recovery is told "not there" only by a healthy archive (d),
// and every call ends (e).
func TestHistories(t *testing.T) {
	var mu sync.Mutex
	counts := map[string]int{}
	t.Run("seeds", func(t *testing.T) {
		for seed := *firstSeed; seed < *firstSeed+uint64(*histories); seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, seed, draw(seed))
				if *agent {
					w.useAgents()
				}
				w.counts = func(what string, n int) {
					mu.Lock()
					defer mu.Unlock()
					counts[what] += n
				}
				w.run()
				w.report()
			})
		}
	})
	t.Logf("%d histories from seed %d:", *histories, *firstSeed)
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%8d %s", counts[what], what)
	}
	if *histories < 100 {
		return
	}
	for _, what := range mustHappen {
		if counts[what] == 0 {
			t.Errorf("in %d histories there was no %q", *histories, what)
		}
	}
}

// mustHappen is what a hundred histories cannot do without.
var mustHappen = []string{
	"push", "fetch", "prune", "promote", "power cuts",
	"binary: kill", "binary: stop", "binary: panic", "client's system call fails",
	"wire: refuse", "wire: lose", "wire: cut", "wire: cut after", "wire: kill", "wire: kill after", "wire: silence", "wire: deaf",
	"wire: slow", "wire: short write", "wire: flip", "wire: eof", "wire: short read", "wire: world", "wire: server's system call fails",
	"line: delay", "line: cut", "line: black hole", "line: refuse", "line: half-open",
	"world: unmount", "world: restart", "world: down", "world: clock forward", "world: clock back",
}

// report fails the test if an invariant did not hold, and says how to see it again.
func (w *world) report() {
	if len(w.violations) == 0 {
		if *verbose {
			w.t.Logf("seed %d\n%s", w.seed, strings.Join(w.log, "\n"))
		}
		return
	}
	for _, v := range w.violations {
		w.t.Errorf("seed %d: invariant (%s): %s", w.seed, v.invariant, v.text)
	}
	again := fmt.Sprintf("make faults N=1 SEED=%d", w.seed)
	if w.agent {
		again += " AGENT=true"
	}
	w.t.Errorf("again: %s\nthe history:\n%s", again, strings.Join(w.log, "\n"))
	fmt.Fprintf(os.Stderr, "FAILED: %s\n", again)
}
