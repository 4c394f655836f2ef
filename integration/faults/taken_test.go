//go:build linux

package faults_test

import "testing"

// Two pushers meet at the same name, and the server has a status of its own for
// that (11, file already exists). The same content is success, other content is
// refused, and neither is an error that comes again with each retry.
func TestTakenHasACodeOfItsOwn(t *testing.T) {
	t.Parallel()
	for seed, same := range map[uint64]bool{1: true, 2: false} {
		w := newWorld(t, seed, plan{store: "gate"})
		w.fork = firstSegment
		first := step{actor: "primary", verb: "push", binary: true, at: "put.synced=stop", wire: breakage{kind: "taken", on: "hardlink", nth: 1}}
		second := step{actor: "standby", verb: "push", binary: true} // pushes what the primary does
		if !same {
			second.actor = "clone"
		}
		w.round([]step{first, second})
		if !w.actors["primary"].gate.hasFired() {
			t.Error("they have not met")
		}
		w.settle()
		w.checkArchive()
		want := uint64(firstSegment + 1) // success or a conflict: in both cases it goes on
		if got := w.actors["primary"].next; got != want {
			t.Errorf("same content %t: the primary is at segment %d, not %d", same, got, want)
		}
		if acks, files := len(w.model.acks), map[bool]int{true: 2, false: 1}[same]; acks != files {
			t.Errorf("same content %t: %d acknowledgements", same, acks)
		}
		w.report()
		for _, line := range w.log {
			t.Log(line)
		}
	}
}
