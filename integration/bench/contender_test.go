//go:build bench

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// contender is one way to do a job; run does it once, for segment number i.
type contender struct {
	name  string
	prep  func(i int) // not measured
	run   func(i int) *exec.Cmd
	turns func() int // round trips so far, nil if there is no connection

	wall, cpu []time.Duration
	trips     []int
}

// measure runs every contender in turn, rounds times, so that what the machine
// does besides hits all of them alike. One round before that is not counted.
func measure(t *testing.T, rounds int, all []*contender) {
	for round := -1; round < rounds; round++ {
		for _, c := range all {
			i := round + 1
			if c.prep != nil {
				c.prep(i)
			}
			cmd := c.run(i)
			before := 0
			if c.turns != nil {
				before = c.turns()
			}
			start := time.Now()
			out, err := cmd.CombinedOutput()
			wall := time.Since(start)
			if err != nil {
				t.Fatalf("%s: %v\n%s", c.name, err, out)
			}
			if round < 0 {
				continue
			}
			c.wall = append(c.wall, wall)
			c.cpu = append(c.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
			if c.turns != nil {
				c.trips = append(c.trips, c.turns()-before)
			}
		}
	}
}

// report prints the medians, and how many times as fast as the first each is.
func report(title string, all []*contender) {
	fmt.Printf("\n%s\n%-42s %9s %9s %8s %6s\n", title, "", "median", "as fast", "cpu", "trips")
	for _, c := range all {
		trips := "-"
		if len(c.trips) > 0 {
			trips = fmt.Sprint(median(c.trips))
		}
		fmt.Printf("%-42s %6d ms %8.2fx %5d ms %6s\n", c.name, median(c.wall).Milliseconds(),
			float64(median(all[0].wall))/float64(median(c.wall)), median(c.cpu).Milliseconds(), trips)
	}
}

func median[T int | int64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// host is the archive host as the client sees it: at once, or behind a proxy
// that makes every round trip longer.
type host struct {
	*testsshd.Server
	addr, port string
	known      string
	turns      func() int
}

func (h *host) args() []string {
	args := h.ClientArgs()
	for i, a := range args {
		if strings.HasPrefix(a, "Port=") {
			args[i] = "Port=" + h.port
		}
		if strings.HasPrefix(a, "UserKnownHostsFile=") {
			args[i] = "UserKnownHostsFile=" + h.known
		}
	}
	return args
}

func (h *host) ssh() string { return "ssh " + strings.Join(h.args(), " ") }

// at returns the server behind a proxy with that round trip, which counts the
// round trips too; 0 is the server itself, as a proxy takes time of its own.
func at(t *testing.T, s *testsshd.Server, rtt time.Duration) *host {
	if rtt == 0 {
		return &host{Server: s, addr: s.Addr, port: s.Port, known: s.KnownHosts}
	}
	p := testnet.New(t, s.Addr)
	p.SetDelay(rtt / 2)
	known := filepath.Join(t.TempDir(), "known_hosts")
	line := strings.Replace(s.KnownHostsLine(s.HostKeys[0]), "]:"+s.Port, fmt.Sprint("]:", p.Port()), 1)
	must(t, os.WriteFile(known, []byte(line), 0o644))
	return &host{Server: s, addr: p.Addr(), port: fmt.Sprint(p.Port()), known: known, turns: p.Turns}
}

func sh(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }
