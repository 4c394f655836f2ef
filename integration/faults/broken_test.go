//go:build linux

package faults_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Each invariant can fail: with a build that leaves one step out, random histories
// find it. Without the step left out, TestHistories finds nothing.
func TestBrokenBuildsAreCaught(t *testing.T) {
	// By chance alone a fetch of what has been pushed rarely meets a flipped bit.
	flips := func(s *step) {
		if s.verb == "fetch" {
			*s = step{actor: s.actor, verb: s.verb, pick: s.pick, wire: breakage{kind: "flip", on: "read", nth: 1 + s.pick%3, bit: uint32(s.pick)}}
		}
	}
	for _, c := range []struct {
		skip      string // see internal/fault
		means     string
		store     string
		invariant string
		from      uint64 // a seed that has noticed; where chance has it otherwise, a later one does
		tilt      func(*step)
	}{
		{"push.compare=skip", "what is there under the name is taken for the same", "gate", "a", 4, nil},
		{"put.noreplace=skip", "a file replaces another one of its name", "gate", "a", 4, nil},
		{"put.folder-fsync=skip", "the folder is not synced", "recorded", "a", 1, nil},
		{"put.fsync=skip", "the file is not synced before it gets its name", "recorded", "b", 1, nil},
		{"put.wait=skip", "nobody waits for the writes", "gate", "b", 4, nil},
		{"fetch.check=skip", "what was read is not checked", "gate", "c", 3, flips},
		{"fetch.identity=skip", "an archive without an identity may say 'not there'", "gate", "d", 2, nil},
		{"fetch.doubt=skip", "doubt is an exit code as any other", "gate", "d", 2, nil},
		{"call.limit=skip,put.synced=hang", "there is no limit for the whole call", "gate", "e", 1, nil},
	} {
		name, _, _ := strings.Cut(c.skip, "=")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := c.from; seed < c.from+60; seed++ {
				p := draw(seed)
				p.store = c.store
				for _, round := range p.rounds {
					for i := range round {
						if c.tilt != nil {
							c.tilt(&round[i])
						}
					}
				}
				caught := false
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					w := newWorld(t, seed, p.ofBinaries())
					w.skip = c.skip
					if c.invariant == "e" {
						w.limits.slack = 3 * time.Second
					}
					w.run()
					for _, v := range w.violations {
						caught = caught || v.invariant == c.invariant
						t.Logf("seed %d: (%s) %s", seed, v.invariant, v.text)
					}
				})
				if caught || t.Failed() {
					return
				}
			}
			t.Errorf("%s: no history has noticed", c.means)
		})
	}
}

// ofBinaries is the plan with every call made by the binary, which alone can be
// a broken build.
func (p plan) ofBinaries() plan {
	for _, round := range p.rounds {
		for i := range round {
			round[i].binary, round[i].cancel = true, 0
		}
	}
	return p
}
