package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testsshd"
)

// With several archives the agent logs in to each once. What is said of push and
// fetch to several holds: see TestPushToSeveral and TestFetchFromSeveral, which
// make test-agent runs with an agent, too.
func TestAgentOfSeveral(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	a := newTwoWith(t, hostileData(t), server, true)
	push := func(number int) {
		t.Helper()
		if code, said := a.push(number, byte(number)); code != 0 {
			t.Fatalf("push of segment %d: code %d: %s", number, code, said)
		}
	}
	status := func() (all []agentStatus) {
		said := a.run(a.env, "agent", "status", "--json").text()
		if err := json.Unmarshal([]byte(said), &all); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		return all
	}
	connected := func(want int) {
		t.Helper()
		hostileWait(t, fmt.Sprint("connections: ", want), func() bool {
			return strings.Count(a.run(a.env, "agent", "status", "--json").text(), `"connected": true`) == want
		})
	}
	push(1) // by itself: it starts the agent
	connected(2)

	logins := func() int { return strings.Count(server.Log(), "Accepted publickey") }
	before := logins()
	for number := 2; number <= 6; number++ {
		push(number)
	}
	p, got := a.fetch("standby", a.name(4))
	if _, want, _ := a.archived(a.root[1], a.name(4)); p.code != 0 || len(got) == 0 || !bytes.Equal(got, want) {
		t.Errorf("fetch: code %d, %d bytes: %s", p.code, len(got), p.text())
	}
	if n := logins(); n != before {
		t.Errorf("%d logins after the agent's", n-before)
	}
	if all := status(); len(all) != 1 || all[0].Pushed != 5 || all[0].Fetched != 1 || all[0].Failed != 0 {
		t.Errorf("the agent has done: %+v", all)
	}
	for number := 1; number <= 6; number++ {
		if !a.has(0, number) || !a.has(1, number) {
			t.Errorf("segment %d in the archives: %v, %v", number, a.has(0, number), a.has(1, number))
		}
	}

	// One falls silent. Before an archive is taken for unreachable a call tries by
	// itself: where there is doubt, and where a newer timeline might matter.
	a.proxy[0].BlackHole(true)
	for mode, want := range map[string]int{"standby": 1, "ending": 0} {
		before := a.proxy[1].Connections()
		p, got := a.fetch(mode, a.name(5))
		says(t, mode+": fetch with one silent", p.code, p.text(), 0)
		if n := a.proxy[1].Connections() - before; len(got) == 0 || n != want {
			t.Errorf("%s: %d bytes were delivered, over %d new connections", mode, len(got), n)
		}
		p, _ = a.fetch(mode, a.name(9))
		says(t, mode+": fetch of what only the silent one may have", p.code, p.text(), 1, "archive unreachable")
		if n := a.proxy[1].Connections() - before; n != want+1 {
			t.Errorf("%s: doubt after %d new connections", mode, n)
		}
	}
	a.proxy[0].BlackHole(false)
	connected(2)

	// One goes down: push fails and says which, fetch goes on with the other one.
	hostileOK(t, a.proxy[0].Refuse(true))
	a.proxy[0].Reset()
	connected(1)
	code, said := a.push(7, 7)
	says(t, "push with one down", code, said, 8, a.url[0]+": archive unreachable", a.url[1]+" has the file")
	for _, mode := range []string{"standby", "archive recovery"} {
		p, got := a.fetch(mode, a.name(5))
		says(t, "fetch with one down", p.code, p.text(), 0, "delivered "+a.name(5)+" from "+a.url[1])
		if len(got) == 0 {
			t.Error("nothing was delivered")
		}
	}
	p, _ = a.fetch("archive recovery", a.name(9))
	says(t, "fetch of what only the one that is down may have", p.code, p.text(), 126, "archive unreachable")

	hostileOK(t, a.proxy[0].Refuse(false))
	push(7)
	connected(2)
	pushed := status()[0].Pushed
	push(8)
	if now := status()[0].Pushed; now != pushed+1 || !a.has(0, 8) || !a.has(1, 8) {
		t.Errorf("once it is up again: %s; in the archives: %v, %v", fmt.Sprint(now), a.has(0, 8), a.has(1, 8))
	}

	// One alone knows of a newer timeline, and the agent's connection to it has died
	// unnoticed: the fork guard knows it all the same.
	history := "00000002.history"
	path := a.add(history, []byte("1\t0/500080\tno recovery target specified\n"))
	a.must(0, a.only(0).with("WALSHIP_AGENT", "off"), "push", "--no-clone-guard", path, history)
	hostileOK(t, os.Remove(filepath.Join(a.Dir, path)))
	for mode, code := range map[string]int{"standby": 1, "archive recovery": 126} {
		push(8)
		connected(2)
		a.proxy[0].Strand()
		p, _ := a.fetch(mode, a.name(5))
		says(t, mode+": fetch of what a timeline that only one knows of has left", p.code, p.text(), code, "withheld", "timeline 2 has left timeline 1")
		a.proxy[0].Reset()
	}
}
