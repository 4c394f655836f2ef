//go:build soak

package integration_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testpg"
)

var soakTime = flag.Duration("soak", 10*time.Minute, "how long TestSoak goes on")

// TestSoak switches segments fast while everything goes wrong in turn: sshd
// restarts, the network is cut or silent, the archive's disk fills, agents are
// killed or frozen, and every now and then the standby takes over and the
// timeline changes. In the last third agents are left alone: their goroutines,
// descriptors and memory must not grow. In the end all is archived, the standby
// has caught up, verify finds nothing, and a new server recovers every row.
func TestSoak(t *testing.T) {
	s := newSite(t)
	must(t, os.Mkdir(s.root, 0o755))
	hostileDisk(t, s.root, "size=1500m")
	proxy := testnet.New(t, s.sshd.Addr)
	s.through(proxy.Addr())
	s.withAgent()
	primary := newPrimary(t, s, testpg.Options{SegmentMB: 1, Conf: map[string]string{"archive_timeout": "5s", "wal_keep_size": "64MB"}})
	if out, err := primary.Pgbench("-i", "-q"); err != nil {
		t.Fatal(out, err)
	}
	standby := follow(t, s, backup(t, primary, false), primary)

	troubles := []struct {
		name string
		do   func()
	}{
		{"sshd restarts", func() { s.sshd.Stop(); pause(1000); s.sshd.Restart() }},
		{"the network is cut", func() { proxy.Reset() }},
		{"the network is cut within an upload", func() { proxy.CutAfter(testnet.ToServer, rand.Int64N(500_000)); pause(500) }},
		{"the network is silent", func() { proxy.BlackHole(true); pause(3000); proxy.BlackHole(false) }},
		{"the disk is full", func() {
			fill := filepath.Join(s.root, "fill")
			f, err := os.Create(fill)
			must(t, err)
			for err == nil {
				_, err = f.Write(make([]byte, 1<<20))
			}
			f.Close()
			pause(1500)
			must(t, os.Remove(fill))
		}},
		{"agents are killed", func() { s.loseAgents() }},
		{"agents freeze", func() {
			for _, pid := range s.agents() {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			}
			pause(1500)
			for _, pid := range s.agents() {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}},
	}
	begin := time.Now()
	turn := begin
	var early map[int]vitals
	for step := 0; time.Since(begin) < *soakTime; step++ {
		if out, err := primary.Pgbench("-n", "-c", "2", "-t", "50"); err != nil {
			t.Fatal(out, err)
		}
		for range 5 {
			insert(primary)
			primary.SwitchWAL()
		}
		late := time.Since(begin) > *soakTime*2/3
		n := len(troubles)
		if late {
			n -= 2 // agents are left alone
			if early == nil {
				early = s.vitals(primary)
			}
		}
		trouble := troubles[rand.IntN(n)]
		fmt.Printf("%v: %s\n", time.Since(begin).Round(time.Second), trouble.name)
		trouble.do()
		if !late && time.Since(turn) > *soakTime/6 {
			turn = time.Now()
			fmt.Printf("%v: the standby takes over\n", time.Since(begin).Round(time.Second))
			want := mustContents(t, primary)
			waitContents(t, standby, want)
			must(t, primary.Stop(testpg.Fast))
			must(t, standby.Promote())
			must(t, standby.WaitPrimary(soon))
			primary = standby
			primary.Query("checkpoint")
			standby = follow(t, s, backup(t, primary, false), primary)
		}
	}
	last := primary.Archive(5 * time.Minute)
	s.stored(last)
	want := mustContents(t, primary)
	waitContents(t, standby, want)
	for pid, late := range s.vitals(primary) {
		before, ok := early[pid]
		fmt.Printf("agent %d: %+v, before %+v\n", pid, late, before)
		if ok && (late.goroutines > before.goroutines+20 || late.descriptors > before.descriptors+10 || late.memory > before.memory+64<<20) {
			t.Errorf("agent %d has grown from %+v to %+v", pid, before, late)
		}
	}
	base := backup(t, primary, false)
	primary.Archive(soon)
	must(t, primary.Stop(testpg.Fast))
	must(t, standby.Stop(testpg.Fast))
	out, err := primary.Run(s.binary, "--config", s.config(), "verify", "-D", primary.Data)
	fmt.Println(out)
	must(t, err)
	recovered := testpg.Restore(t, base)
	recovered.WriteRecovery(false, s.recovering())
	must(t, recovered.Start())
	must(t, recovered.WaitPrimary(soon))
	waitContents(t, recovered, want)
}

func pause(most int) { time.Sleep(time.Duration(rand.IntN(most)) * time.Millisecond) }

// vitals are what must not grow in an agent.
type vitals struct {
	goroutines, descriptors int
	memory                  uint64
}

func (s *site) vitals(c *testpg.Cluster) map[int]vitals {
	all := make(map[int]vitals)
	for _, a := range s.agentStatus(c) {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", a.PID))
		all[a.PID] = vitals{a.Goroutines, len(fds), a.MemoryBytes}
	}
	return all
}
