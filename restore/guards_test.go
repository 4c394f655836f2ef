package restore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
)

const (
	doubt    = "doubt"
	deliver  = "deliver"
	withhold = "withhold"
	absent   = "absent"
)

// scene is one question and what the guards make of it.
type scene struct {
	what      string
	version   string            // 17_seg1 if ""
	size      int64             // of a segment; the fixture's if 0
	histories map[string]string // in the archive
	aim       string            // recovery_target_timeline
	ask       string            // the name asked for
	there     bool              // it is archived
	others    []string          // archived too
	standby   string            // what a standby gets
	recovery  string            // what archive recovery gets
}

func (c scene) play(t *testing.T, mode pgdata.Mode, local bool) (got string, err error) {
	t.Helper()
	version := c.version
	if version == "" {
		version = small
	}
	s := newSite(t, version)
	if c.size != 0 {
		s.data.Control.SegmentSize = c.size
		s.plant(s.cluster().IdentityFile(), layout.Identity{SystemID: s.data.Control.SystemID, SegmentSize: c.size, Codec: "zstd"}.Marshal())
	}
	s.HeaderCheck = c.size == 0
	for name, text := range c.histories {
		if local {
			write(t, filepath.Join(s.data.WALDir(), name), []byte(text))
		} else {
			s.archive(name, []byte(text), stored.Zstd)
		}
	}
	s.aimAt(c.aim)
	for _, name := range c.others {
		s.archive(name, []byte("x"), stored.Zstd)
	}
	var content []byte
	if c.there {
		switch {
		case c.size != 0: // a stub of it: what the guards let pass is found damaged
			content = make([]byte, 40)
		case version == small:
			content = s.segment(c.ask, fixture(t, small, seg6))
		default:
			content = s.segment(c.ask, fixture(t, version, "000000010000000000000003"))
		}
		s.archive(c.ask, content, stored.Zstd)
	}
	err = s.fetch(c.ask, mode)
	switch {
	case err == nil:
		s.delivered(err, content)
		return deliver, nil
	case errors.Is(err, ErrWithheld):
		s.untouched()
		if errors.Is(err, ErrNotThere) || !strings.Contains(transport.Hint(err), "--no-") || !strings.Contains(err.Error(), c.ask) {
			t.Errorf("%s: %v, hint %q", c.what, err, transport.Hint(err))
		}
		return withhold, err
	case errors.Is(err, ErrNotThere):
		s.untouched()
		return absent, err
	}
	return doubt, err
}

func history(lines ...string) map[string]string {
	h := make(map[string]string)
	for i, text := range lines {
		if text != "" {
			h[fmt.Sprintf("%08X.history", i+2)] = text
		}
	}
	return h
}

// Segments of 1 MB unless it says otherwise: 0/A00000 is the start of segment 0A.
var scenes = []scene{
	// The fork guard: where the fork lies.
	{what: "no newer timeline", ask: seg6, there: true, standby: deliver, recovery: deliver},
	{what: "before the fork", histories: history("1\t0/A00C58\tx\n"), ask: "000000010000000000000009", there: true, standby: deliver, recovery: deliver},
	{what: "at the fork", histories: history("1\t0/A00C58\tx\n"), ask: "00000001000000000000000A", there: true, standby: withhold, recovery: withhold},
	{what: "behind the fork", histories: history("1\t0/A00C58\tx\n"), ask: "00000001000000000000000B", there: true, standby: withhold, recovery: withhold},
	{what: "fork at the end", histories: history("1\t0/B00000\tx\n"), ask: "00000001000000000000000A", there: true, standby: deliver, recovery: deliver},
	{what: "fork at the start", histories: history("1\t0/A00000\tx\n"), ask: "00000001000000000000000A", there: true, standby: withhold, recovery: withhold},
	{what: "fork at the last byte", histories: history("1\t0/AFFFFF\tx\n"), ask: "00000001000000000000000A", there: true, standby: withhold, recovery: withhold},
	{what: "the new timeline itself", histories: history("1\t0/A00C58\tx\n"), ask: "00000002000000000000000A", there: true, standby: deliver, recovery: deliver},
	{what: "1 GB, fork at the end", size: 1 << 30, histories: history("1\t0/80000000\tx\n"), ask: "000000010000000000000001", there: true, standby: doubt, recovery: doubt},
	{what: "1 GB, at the fork", size: 1 << 30, histories: history("1\t0/7FFFFFFF\tx\n"), ask: "000000010000000000000001", there: true, standby: withhold, recovery: withhold},
	// Whether recovery goes there.
	{what: "aimed at the old timeline", aim: "1", histories: history("1\t0/A00C58\tx\n"), ask: "00000001000000000000000A", there: true, standby: deliver, recovery: deliver},
	{what: "aimed at the current one", aim: "current", histories: history("1\t0/A00C58\tx\n"), ask: "00000001000000000000000A", there: true, standby: deliver, recovery: deliver},
	{what: "aimed at the new timeline", aim: "2", histories: history("1\t0/A00C58\tx\n"), ask: "00000001000000000000000A", there: true, standby: withhold, recovery: withhold},
	{what: "aimed by default", aim: "", histories: history("1\t0/A00C58\tx\n"), ask: "00000001000000000000000A", there: true, standby: withhold, recovery: withhold},
	{what: "aimed at nonsense", aim: "nonsense", histories: history("1\t0/A00C58\tx\n"), ask: "00000001000000000000000A", there: true, standby: withhold, recovery: withhold},
	{what: "aimed at timeline 3, 2 left earlier", aim: "3", histories: history("1\t0/A00C58\tx\n", "1\t0/C00000\tx\n"), ask: "00000001000000000000000B", there: true, standby: deliver, recovery: deliver},
	{what: "aimed at timeline 2, 3 left later", aim: "2", histories: history("1\t0/A00C58\tx\n", "1\t0/C00000\tx\n"), ask: "00000001000000000000000B", there: true, standby: withhold, recovery: withhold},
	{what: "before 12, by default the current", version: "9.4", aim: "", histories: history("1\t0/5000E58\tx\n"), ask: "000000010000000000000005", there: true, standby: deliver, recovery: deliver},
	{what: "before 12, latest", version: "9.4", aim: "latest", histories: history("1\t0/5000E58\tx\n"), ask: "000000010000000000000005", there: true, standby: withhold, recovery: withhold},
	// Several timelines.
	{what: "a chain, first fork", histories: history("1\t0/A00C58\tx\n", "1\t0/A00C58\tx\n2\t0/C00000\tx\n"), ask: "00000001000000000000000A", there: true, standby: withhold, recovery: withhold},
	{what: "a chain, between the forks", histories: history("1\t0/A00C58\tx\n", "1\t0/A00C58\tx\n2\t0/C00000\tx\n"), ask: "00000002000000000000000B", there: true, standby: deliver, recovery: deliver},
	{what: "a chain, second fork", histories: history("1\t0/A00C58\tx\n", "1\t0/A00C58\tx\n2\t0/C00001\tx\n"), ask: "00000002000000000000000C", there: true, standby: withhold, recovery: withhold},
	{what: "an abandoned timeline left earlier", histories: history("1\t0/A00C58\tx\n", "1\t0/C00C58\tx\n"), ask: "00000001000000000000000B", there: true, standby: deliver, recovery: deliver},
	{what: "an abandoned timeline left later", histories: history("1\t0/C00C58\tx\n", "1\t0/A00C58\tx\n"), ask: "00000001000000000000000B", there: true, standby: withhold, recovery: withhold},
	{what: "a gap in the numbers", histories: history("1\t0/A00C58\tx\n", "", "1\t0/C00C58\tx\n"), ask: "00000001000000000000000B", there: true, standby: withhold, recovery: withhold},
	{what: "switch points that fall, before both", histories: history("1\t0/C00000\tx\n", "1\t0/C00000\tx\n2\t0/A00C58\tx\n"), ask: "000000010000000000000009", there: true, standby: deliver, recovery: deliver},
	{what: "switch points that fall, between", histories: history("1\t0/C00000\tx\n", "1\t0/C00000\tx\n2\t0/A00C58\tx\n"), ask: "00000001000000000000000B", there: true, standby: withhold, recovery: withhold},
	{what: "a timeline of other parents", histories: history("1\t0/A00C58\tx\n", "1\t0/A00C58\tx\n"), ask: "00000002000000000000000F", there: true, standby: deliver, recovery: deliver},
	// 9.0 to 9.2 name only the segment.
	{what: "9.2, before the fork", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000010000000000000004", there: true, standby: deliver, recovery: deliver},
	{what: "9.2, behind the fork", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000010000000000000006", there: true, standby: withhold, recovery: withhold},
	{what: "9.2, at the fork", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000010000000000000005", there: true, standby: withhold, recovery: withhold},
	{what: "9.2, within it", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000010000000000000005", there: true, others: []string{"000000020000000000000005", "000000020000000000000006"}, standby: withhold, recovery: withhold},
	{what: "9.2, at its very end", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000010000000000000005", there: true, others: []string{"000000020000000000000006"}, standby: deliver, recovery: deliver},
	{what: "9.2, at the end of a log", version: "9.2", aim: "latest", histories: history("1\t0000000100000000000000FE\tx\n"), ask: "0000000100000000000000FE", there: true, others: []string{"000000020000000100000000"}, standby: deliver, recovery: deliver},
	{what: "9.2, at the fork, current", version: "9.2", aim: "", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000010000000000000005", there: true, standby: deliver, recovery: deliver},

	// The gap guard: what is not there.
	{what: "the end of WAL", ask: seg7, others: []string{seg6}, standby: absent, recovery: absent},
	{what: "a hole", ask: seg6, others: []string{seg7}, standby: absent, recovery: withhold},
	{what: "a hole before another log", ask: "000000010000000000000FFF", others: []string{"000000010000000100000000"}, standby: absent, recovery: withhold},
	{what: "an older log", ask: "000000010000000100000000", others: []string{"000000010000000000000FFF"}, standby: absent, recovery: absent},
	{what: "only a partial behind", ask: seg6, others: []string{seg7 + ".partial"}, standby: absent, recovery: absent},
	{what: "another timeline goes on", ask: seg6, others: []string{"000000020000000000000007"}, standby: absent, recovery: absent},
	{what: "a hole before the fork", histories: history("1\t0/A00C58\tx\n"), ask: "000000010000000000000009", standby: absent, recovery: withhold},
	{what: "a hole that ends at the fork", histories: history("1\t0/B00000\tx\n"), ask: "00000001000000000000000A", standby: absent, recovery: withhold},
	{what: "the segment of the fork", histories: history("1\t0/A00C58\tx\n"), ask: "00000001000000000000000A", standby: absent, recovery: absent},
	{what: "behind the fork at its end", histories: history("1\t0/B00000\tx\n"), ask: "00000001000000000000000B", standby: absent, recovery: absent},
	{what: "before the fork, aimed at the old", aim: "1", histories: history("1\t0/A00C58\tx\n"), ask: "000000010000000000000009", standby: absent, recovery: absent},
	{what: "a segment from before its timeline", histories: history("1\t0/A00C58\tx\n"), ask: "000000020000000000000009", others: []string{"00000002000000000000000A"}, standby: absent, recovery: absent},
	{what: "from before, fork at the end", histories: history("1\t0/B00000\tx\n"), ask: "00000002000000000000000A", others: []string{"00000002000000000000000B"}, standby: absent, recovery: absent},
	{what: "the first of its timeline", histories: history("1\t0/A00C58\tx\n"), ask: "00000002000000000000000A", others: []string{"00000002000000000000000B"}, standby: absent, recovery: withhold},
	{what: "the first behind a fork at the end", histories: history("1\t0/B00000\tx\n"), ask: "00000002000000000000000B", others: []string{"00000002000000000000000C"}, standby: absent, recovery: withhold},
	{what: "of a timeline without history", ask: "000000020000000000000009", others: []string{"00000002000000000000000A"}, standby: absent, recovery: withhold},
	{what: "9.2, a hole before the fork", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000010000000000000004", standby: absent, recovery: withhold},
	{what: "9.2, the segment of the fork", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000010000000000000005", standby: absent, recovery: absent},
	{what: "9.2, from before its timeline", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000020000000000000005", others: []string{"000000020000000000000006"}, standby: absent, recovery: absent},
	{what: "9.2, a hole behind the fork", version: "9.2", aim: "latest", histories: history("1\t000000010000000000000005\tx\n"), ask: "000000020000000000000006", others: []string{"000000020000000000000007"}, standby: absent, recovery: withhold},
	{what: "the next history", histories: history("1\t0/A00C58\tx\n"), ask: "00000003.history", standby: absent, recovery: absent},
	{what: "a missing history", histories: history("", "1\t0/A00C58\tx\n"), ask: fork2, standby: absent, recovery: withhold},
	{what: "timeline 1 has none", histories: history("1\t0/A00C58\tx\n"), ask: "00000001.history", standby: absent, recovery: absent},
}

// The decision table of the guards, on a server that recovers.
func TestGuards(t *testing.T) {
	for _, c := range scenes {
		t.Run(c.what, func(t *testing.T) { t.Parallel(); c.judge(t) })
	}
}

func (c scene) judge(t *testing.T) {
	for mode, want := range map[pgdata.Mode]string{pgdata.Standby: c.standby, pgdata.ArchiveRecovery: c.recovery} {
		if got, err := c.play(t, mode, false); got != want {
			t.Errorf("%s, %s: %s (%v), want %s", c.what, mode, got, err, want)
		}
	}
	// The server's own copies of the histories count as well as the archive's,
	// but for the question whether one is missing there.
	if !strings.HasSuffix(c.ask, ".history") {
		if got, err := c.play(t, pgdata.ArchiveRecovery, true); got != c.recovery {
			t.Errorf("%s, histories at hand: %s (%v), want %s", c.what, got, err, c.recovery)
		}
	}
	// Nobody else is held up.
	want := absent
	switch {
	case c.size != 0:
		want = doubt
	case c.there:
		want = deliver
	}
	for _, mode := range []pgdata.Mode{pgdata.Ending, pgdata.ByHand} {
		if got, err := c.play(t, mode, false); got != want {
			t.Errorf("%s, %s: %s (%v), want %s", c.what, mode, got, err, want)
		}
	}
}

// pg_rewind asks for segments behind a fork, by their own names.
func TestGuardsLetRewindPass(t *testing.T) {
	s := newSite(t, small)
	const name = "00000001000000000000000B"
	content := s.segment(name, fixture(t, small, seg6))
	s.archive(name, content, stored.Zstd)
	s.archive(fork2, fixture(t, small, fork2), stored.Zstd)
	path := filepath.Join(s.data.WALDir(), name)
	for _, mode := range modes {
		if err := s.Fetch(t.Context(), Request{Name: name, Path: path, Data: s.data, Mode: mode}); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		err := s.Fetch(t.Context(), Request{Name: "000000010000000000000009", Path: filepath.Join(s.data.WALDir(), "000000010000000000000009"), Data: s.data, Mode: mode})
		want := ErrNotThere
		if mode == pgdata.ArchiveRecovery {
			want = ErrWithheld // a hole is a hole, whoever asks
		}
		if !errors.Is(err, want) {
			t.Errorf("%s, absent: %v", mode, err)
		}
	}
}

// Each guard has a switch of its own.
func TestGuardsOff(t *testing.T) {
	s := newSite(t, small)
	const behind = "00000001000000000000000B"
	content := s.segment(behind, fixture(t, small, seg6))
	s.archive(behind, content, stored.Zstd)
	s.archive(fork2, fixture(t, small, fork2), stored.Zstd)
	s.ForkGuard, s.GapGuard = true, false
	if err := s.fetch(behind, pgdata.ArchiveRecovery); !errors.Is(err, ErrWithheld) {
		t.Errorf("fork guard: %v", err)
	}
	if err := s.fetch(seg7, pgdata.ArchiveRecovery); !errors.Is(err, ErrNotThere) {
		t.Errorf("gap guard off: %v", err)
	}
	s.ForkGuard, s.GapGuard = false, true
	if err := s.fetch(seg7, pgdata.ArchiveRecovery); !errors.Is(err, ErrWithheld) {
		t.Errorf("gap guard: %v", err)
	}
	s.delivered(s.fetch(behind, pgdata.ArchiveRecovery), content)
}

// A history that cannot be read is doubt for every older segment.
func TestGuardsInDoubt(t *testing.T) {
	s := newSite(t, small)
	s.archive(seg6, fixture(t, small, seg6), stored.Zstd)
	stow := s.archive(fork2, nil, stored.Zstd)
	for _, mode := range []pgdata.Mode{pgdata.Standby, pgdata.ArchiveRecovery} {
		s.doubt("a torn history", s.fetch(seg6, mode), stored.ErrDamaged, stow)
	}
	// One that is in the server's own folder is not asked of the archive.
	write(t, filepath.Join(s.data.WALDir(), fork2), fixture(t, small, fork2))
	s.delivered(s.fetch(seg6, pgdata.ArchiveRecovery), fixture(t, small, seg6))
}

// A flat folder's histories count too.
func TestGuardsInFlatFolder(t *testing.T) {
	s := newSite(t, small)
	s.flat()
	const behind = "00000001000000000000000B"
	s.plant(behind, s.segment(behind, fixture(t, small, seg6)))
	s.plant(fork2, fixture(t, small, fork2))
	if err := s.fetch(behind, pgdata.Standby); !errors.Is(err, ErrWithheld) {
		t.Errorf("fork: %v", err)
	}
	if err := s.fetch("00000001000000000000000A", pgdata.ArchiveRecovery); !errors.Is(err, ErrWithheld) {
		t.Errorf("hole: %v", err)
	}
	if len(s.warns) != 0 {
		t.Errorf("warned %q", slices.Compact(s.warns))
	}
}
