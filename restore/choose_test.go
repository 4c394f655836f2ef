package restore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// life is what an archive with segments of 1 MB holds: a run of segments is
// "timeline first-last at minute", a backup "timeline start end minute".
type life struct {
	version   string // 17_seg1 if ""
	segments  []string
	histories map[string]string
	backups   []string
	damaged   []string // stored names that are made unreadable
	emptied   string   // the end of one that is emptied
}

func (l life) site(t *testing.T) *site {
	t.Helper()
	version := l.version
	if version == "" {
		version = small
	}
	s := newSite(t, version)
	for _, text := range l.segments {
		var tl walname.Timeline
		var first, last uint64
		var minute int
		if _, err := fmt.Sscanf(text, "%d %d-%d at %d", &tl, &first, &last, &minute); err != nil {
			t.Fatal(text, err)
		}
		s.segments(tl, first, last, noon.Add(time.Duration(minute)*time.Minute))
	}
	for name, text := range l.histories {
		s.archive(name, []byte(text), stored.Zstd)
	}
	for _, text := range l.backups {
		b := aBackup{partFiles: 100}
		var minute int
		if _, err := fmt.Sscanf(text, "%d %s %s %d", &b.timeline, &b.start, &b.end, &minute); err != nil {
			t.Fatal(text, err)
		}
		b.begin = noon.Add(time.Duration(minute) * time.Minute)
		s.backup(b)
	}
	for _, n := range s.store.Names() {
		if l.emptied != "" && strings.HasSuffix(n, l.emptied) {
			s.plant(n, nil)
		}
	}
	for _, name := range l.damaged {
		found := false
		for _, n := range s.store.Names() {
			if strings.Contains(n, name) {
				s.plant(n, []byte("damaged"))
				found = true
			}
		}
		if !found {
			t.Fatal(name)
		}
	}
	return s
}

// Three lives. In the first nothing ever happened. In the second a standby was
// promoted in segment 10 (0/A00000), at minute 10, and the old primary is gone;
// in the third it went on for a while; in the fourth a recovery to the past, at
// minute 30, left timeline 1 at segment 10 (minute 10), which had gone on to
// segment 25.
var (
	quiet    = life{segments: []string{"1 2-20 at 2"}, backups: []string{"1 0/300028 0/300100 3", "1 0/800028 0/800100 8"}}
	failover = life{segments: []string{"1 2-9 at 2", "2 10-20 at 10"}, histories: history("1\t0/A00C58\tno recovery target specified\n"),
		backups: []string{"1 0/300028 0/300100 3", "1 0/800028 0/800100 8", "2 0/F00028 0/F00100 15"}}
	brain = life{segments: []string{"1 2-14 at 2", "2 10-20 at 10"}, histories: history("1\t0/A00C58\tno recovery target specified\n"),
		backups: []string{"1 0/300028 0/300100 3", "1 0/D00028 0/D00100 13", "2 0/F00028 0/F00100 15"}}
	rewound = life{segments: []string{"1 2-25 at 2", "2 10-20 at 30"}, histories: history("1\t0/A00C58\tbefore 2026-11-22 12:10:30+00\n"),
		backups: []string{"1 0/300028 0/300100 3", "1 0/1400028 0/1400100 20"}}
)

func minute(m float64) Target {
	return Target{Kind: AtTime, Time: noon.Add(time.Duration(m * float64(time.Minute)))}
}

func position(t *testing.T, s string) Target { return Target{Kind: AtLSN, LSN: lsn(t, s)} }

func TestChoose(t *testing.T) {
	number := func(n walname.Timeline) TimelineChoice { return TimelineChoice{Number: n} }
	latest, current := TimelineChoice{Latest: true}, TimelineChoice{Current: true}
	at := func(s string) Target { return position(t, s) }
	older := "000000010000000000000003-20261122T120300Z"
	for _, c := range []struct {
		what     string
		life     life
		target   Target
		timeline TimelineChoice
		backup   string
		ok       bool // --missing-wal-ok
		want     string
	}{
		// The newest backup that had ended.
		{what: "latest", life: quiet, want: "3 1 8-20"},
		{what: "between the backups", life: quiet, target: minute(8.5), want: "1 1 3-20"},
		{what: "at a backup's very end", life: quiet, target: minute(9), want: "3 1 8-20"},
		{what: "behind both", life: quiet, target: minute(15), want: "3 1 8-20"},
		{what: "before all", life: quiet, target: minute(3.9), want: "is before the oldest backup on the way to timeline 1, " + older + ", had ended (2026-11-22 12:04:00+00:00"},
		{what: "after the end", life: quiet, target: minute(21), want: "after the end of the archived WAL: the last segment, 000000010000000000000014, was archived at 2026-11-22 12:20:00+00:00"},
		{what: "after the end, and so be it", life: quiet, target: minute(21), ok: true, want: "3 1 8-20"},
		{what: "LSN between the backups", life: quiet, target: at("0/800050"), want: "1 1 3-8"},
		{what: "LSN at a backup's end", life: quiet, target: at("0/800100"), want: "3 1 8-8"},
		{what: "LSN before all", life: quiet, target: at("0/300000"), want: "is before the oldest backup"},
		{what: "LSN in the last segment", life: quiet, target: at("0/14FFFFF"), want: "3 1 8-20"},
		{what: "LSN beyond", life: quiet, target: at("0/1500000"), want: "beyond the archived WAL, which ends with segment 000000010000000000000014"},
		{what: "LSN far beyond", life: quiet, target: at("FF/0"), want: "beyond the archived WAL"},
		{what: "immediate", life: quiet, target: Target{Kind: Immediate}, want: "3 1 8-8"},
		{what: "a restore point", life: quiet, target: Target{Kind: AtName, Name: "x"}, want: "3 1 8-20"},
		{what: "a transaction", life: quiet, target: Target{Kind: AtXID, XID: 700}, want: "3 1 8-20"},
		{what: "by name", life: quiet, backup: older, want: "1 1 3-20"},
		{what: "by name, too late", life: quiet, backup: "000000010000000000000008-20261122T120800Z", target: minute(8.5), want: "is before backup 000000010000000000000008-20261122T120800Z had ended"},
		{what: "by a wrong name", life: quiet, backup: "000000010000000000000007-20261122T120800Z", want: "it has no backup 000000010000000000000007"},
		{what: "no backup", life: life{segments: quiet.segments}, want: "has no base backup in it"},
		{what: "no such timeline", life: quiet, timeline: number(2), want: "there is no timeline 2 in it; there are 1"},
		// A promotion.
		{what: "failover, latest", life: failover, want: "5 2 15-20"},
		{what: "failover, before it", life: failover, target: minute(9.5), want: "3 2 8-20"},
		{what: "failover, after it", life: failover, target: minute(12), want: "3 2 8-20"},
		{what: "failover, LSN before it", life: failover, target: at("0/900000"), want: "3 2 8-9"},
		{what: "failover, LSN after it", life: failover, target: at("0/A00C59"), want: "3 2 8-10"},
		{what: "failover, timeline 2", life: failover, timeline: number(2), want: "5 2 15-20"},
		{what: "failover, timeline 1", life: failover, timeline: number(1), want: "3 1 8-9"},
		{what: "failover, timeline 1, its backup on 2", life: failover, timeline: number(1), backup: "00000002000000000000000F-20261122T121500Z", want: "is not on the way to timeline 1: it is of timeline 2"},
		{what: "failover, the backup's own", life: failover, timeline: current, want: "5 2 15-20"},
		{what: "failover, an old backup's own", life: failover, timeline: current, backup: older, want: "1 1 3-9"},
		{what: "failover, the backup's own before it", life: failover, timeline: current, target: minute(9.0), want: "3 1 8-9"},
		// Two primaries.
		{what: "two primaries, latest", life: brain, want: "5 2 15-20"},
		{what: "two primaries, before they part", life: brain, target: minute(8.5), want: "1 2 3-20"},
		{what: "two primaries, both", life: brain, target: minute(12), want: "may be on timeline 1 or on timeline 2, which part at LSN 0/A00C58"},
		{what: "two primaries, both, latest", life: brain, target: minute(12), timeline: latest, want: "1 2 3-20"},
		{what: "two primaries, both, 1", life: brain, target: minute(13.5), timeline: number(1), want: "1 1 3-14"},
		{what: "two primaries, both, 1, later", life: brain, target: minute(14), timeline: number(1), want: "3 1 13-14"},
		{what: "two primaries, one of them gone", life: brain, target: minute(18), want: "5 2 15-20"},
		{what: "two primaries, LSN of both", life: brain, target: at("0/B00000"), want: "may be on timeline 1 or on timeline 2"},
		{what: "two primaries, LSN of one", life: brain, target: at("0/F80000"), want: "5 2 15-15"},
		{what: "two primaries, LSN before they part", life: brain, target: at("0/A00C57"), want: "1 2 3-10"},
		{what: "two primaries, a backup on the lost one", life: brain, backup: "00000001000000000000000D-20261122T121300Z", want: "ended at LSN 0/D00100 of timeline 1, which the way to timeline 2 leaves at 0/A00C58"},
		{what: "two primaries, the lost one's own", life: brain, backup: "00000001000000000000000D-20261122T121300Z", timeline: current, want: "3 1 13-14"},
		// A recovery to the past.
		{what: "rewound, latest", life: rewound, want: "1 2 3-20"},
		{what: "rewound, before the point", life: rewound, target: minute(8.5), want: "1 2 3-20"},
		{what: "rewound, what was given up", life: rewound, target: minute(20.5), want: "may be on timeline 1 or on timeline 2"},
		{what: "rewound, what was given up, asked for", life: rewound, target: minute(22), timeline: number(1), want: "3 1 20-25"},
		{what: "rewound, since", life: rewound, target: minute(35), want: "1 2 3-20"},
		{what: "rewound, LSN given up", life: rewound, target: at("0/1800000"), want: "lies on timeline 1, which was left at 0/A00C58, and not on timeline 2"},
		// Histories.
		{what: "history missing", life: life{segments: failover.segments, backups: failover.backups}, want: "the history of timeline 2, 00000002.history, is missing"},
		{what: "history missing, without it", life: life{segments: failover.segments, backups: failover.backups}, timeline: number(1), want: "3 1 8-9"},
		{what: "history damaged", life: life{segments: failover.segments, backups: failover.backups, histories: failover.histories, damaged: []string{"00000002.history"}}, want: "00000002.history.zst: stored file is damaged"},
		{what: "an ancestor's history missing", life: life{segments: []string{"1 2-9 at 2", "3 10-20 at 10"}, histories: history("", "1\t0/A00000\tx\n2\t0/A00000\tx\n"), backups: quiet.backups}, want: "timeline 2, 00000002.history, which timeline 3 descends from, is missing"},
		{what: "three timelines", life: life{segments: []string{"1 2-9 at 2", "2 10-12 at 10", "3 12-20 at 14"}, histories: history("1\t0/A00C58\tx\n", "1\t0/A00C58\tx\n2\t0/C00C58\tx\n"), backups: quiet.backups}, want: "3 3 8-20"},
		{what: "three timelines, the second's segment at the fork is not needed", life: life{segments: []string{"1 2-9 at 2", "2 10-11 at 10", "3 12-20 at 14"}, histories: history("1\t0/A00C58\tx\n", "1\t0/A00C58\tx\n2\t0/C00C58\tx\n"), backups: quiet.backups}, want: "3 3 8-20"},
		{what: "a fork at a segment's end", life: life{segments: []string{"1 2-10 at 2", "2 11-12 at 12"}, histories: history("1\t0/B00000\tx\n"), backups: quiet.backups}, want: "3 2 8-12"},
		{what: "two children of 1", life: life{segments: []string{"1 2-9 at 2", "2 10-15 at 10", "3 10-20 at 30"}, histories: history("1\t0/A00C58\tx\n", "1\t0/A00D00\tx\n"), backups: quiet.backups}, target: at("0/C00000"), want: "may be on timeline 2 or on timeline 3, which part at LSN 0/A00C58"},
		// Holes.
		{what: "a hole", life: life{segments: []string{"1 2-9 at 2", "1 12-13 at 12", "1 15-20 at 15"}, backups: quiet.backups}, want: "3 segments are missing between backup 000000010000000000000008-20261122T120800Z and the target: 00000001000000000000000A to 00000001000000000000000B, 00000001000000000000000E"},
		{what: "a hole, and so be it", life: life{segments: []string{"1 2-9 at 2", "1 12-20 at 12"}, backups: quiet.backups}, ok: true, want: "3 1 8-20"},
		{what: "a hole behind the target's time", life: life{segments: []string{"1 2-9 at 2", "1 12-20 at 12"}, backups: quiet.backups}, target: minute(8.8), want: "1 1 3-9"},
		{what: "a hole in front of the target's time", life: life{segments: []string{"1 2-9 at 2", "1 12-20 at 12"}, backups: quiet.backups}, target: minute(9.5), want: "2 segments are missing"},
		{what: "a hole behind the target's LSN", life: life{segments: []string{"1 2-9 at 2", "1 12-20 at 12"}, backups: quiet.backups}, target: at("0/900000"), want: "3 1 8-9"},
		{what: "a hole in front of the target's LSN", life: life{segments: []string{"1 2-9 at 2", "1 12-20 at 12"}, backups: quiet.backups}, target: at("0/C00000"), want: "2 segments are missing"},
		{what: "the backup's own WAL", life: life{segments: []string{"1 2-7 at 2", "1 9-20 at 9"}, backups: quiet.backups}, want: "1 segment is missing between backup 000000010000000000000008-20261122T120800Z and the target: 000000010000000000000008"},
		{what: "no WAL of the new timeline", life: life{segments: []string{"1 2-9 at 2"}, histories: failover.histories, backups: quiet.backups}, want: "1 segment is missing between backup 000000010000000000000008-20261122T120800Z and the target: 00000002000000000000000A"},
		{what: "no WAL at all", life: life{segments: []string{"1 2-2 at 2"}, backups: quiet.backups}, want: "1 segment is missing"},
		{what: "an empty segment", life: life{segments: quiet.segments, backups: quiet.backups, emptied: "00000001000000000000000C.gz"}, want: "1 segment is missing between backup 000000010000000000000008-20261122T120800Z and the target: 00000001000000000000000C"},
		{what: "a backup that the fork cut short", life: life{segments: failover.segments, histories: failover.histories, backups: []string{"1 0/300028 0/300100 3", "1 0/A00028 0/A00D00 10"}}, want: "1 2 3-20"},
		{what: "left before its parent began", life: life{segments: []string{"1 2-9 at 2", "2 10-12 at 10", "3 9-20 at 14"}, histories: history("1\t0/A00C58\tx\n", "1\t0/A00C58\tx\n2\t0/900C58\tx\n"), backups: []string{"1 0/300028 0/300100 3", "1 0/900D00 0/900E00 9"}}, want: "1 3 3-20"},
		// Damaged backups.
		{what: "the newest is damaged", life: life{segments: quiet.segments, backups: quiet.backups, damaged: []string{"08-20261122T120800Z/manifest.json"}}, want: "1 1 3-20"},
		{what: "the newest is damaged and asked for", life: life{segments: quiet.segments, backups: quiet.backups, damaged: []string{"08-20261122T120800Z/manifest.json"}}, backup: "000000010000000000000008-20261122T120800Z", want: "manifest.json: damaged"},
		// 9.2 records segments.
		{what: "9.2, before the fork", life: life{version: "9.2", segments: []string{"1 2-5 at 2", "2 5-9 at 10"}, histories: history("1\t000000010000000000000005\tx\n"), backups: []string{"1 0/3000020 0/3000100 3"}}, want: "1 2 3-9"},
		{what: "9.2, at a segment's end", life: life{version: "9.2", segments: []string{"1 2-5 at 2", "2 6-9 at 10"}, histories: history("1\t000000010000000000000005\tx\n"), backups: []string{"1 0/3000020 0/3000100 3"}}, want: "1 2 3-9"},
		{what: "9.2, neither", life: life{version: "9.2", segments: []string{"1 2-4 at 2", "2 6-9 at 10"}, histories: history("1\t000000010000000000000005\tx\n"), backups: []string{"1 0/3000020 0/3000100 3"}}, want: "1 segment is missing between backup 000000010000000000000003-20261122T120300Z and the target: 000000020000000000000005"},
		{what: "9.2, a backup in the fork's segment", life: life{version: "9.2", segments: []string{"1 2-5 at 2", "2 5-9 at 10"}, histories: history("1\t000000010000000000000005\tx\n"), backups: []string{"1 0/5000020 0/5000100 3"}}, want: "is not on the way to timeline 2"},
	} {
		s := c.life.site(t)
		o := s.options()
		o.Target, o.Timeline, o.Backup, o.MissingWALOK = c.target, c.timeline, c.backup, c.ok
		p, err := s.restorer().Plan(t.Context(), o)
		got := ""
		switch {
		case err == nil:
			g := s.data.Geometry()
			got = fmt.Sprintf("%d %d %d-%d", 0, p.Timeline, g.Number(p.First), g.Number(p.Last))
			for i, text := range c.life.backups {
				var tl, start, end string
				var m int
				fmt.Sscanf(text, "%s %s %s %d", &tl, &start, &end, &m)
				if p.Manifest.Begin.Equal(noon.Add(time.Duration(m) * time.Minute)) {
					got = fmt.Sprint(2*i+1) + got[1:]
				}
			}
		case !errors.Is(err, ErrNoWay) && !errors.Is(err, ErrOptions) && !isDamage(err) || transport.Hint(err) == "" && errors.Is(err, ErrNoWay) && !strings.Contains(err.Error(), "no timeline"):
			t.Errorf("%s: %v, hint %q", c.what, err, transport.Hint(err))
			continue
		default:
			got = err.Error()
		}
		if err == nil && got != c.want || err != nil && !strings.Contains(got, c.want) || c.want[0] > '9' && err == nil {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
		if strings.Contains(c.what, "newest is damaged") && err == nil && (len(s.warns) != 1 || !strings.Contains(s.warns[0], "passed over")) {
			t.Errorf("%s: warned %q", c.what, s.warns)
		}
		hasNo(t, o.Dir, ".")
	}
}

// Several clusters in one archive, and none.
func TestWhichCluster(t *testing.T) {
	s := quiet.site(t)
	own := s.data.Control.SystemID
	other := newSite(t, fifteen)
	id, _ := other.store.Bytes(other.cluster().IdentityFile())
	s.plant(other.cluster().IdentityFile(), id)
	o := s.options()
	if _, err := s.restorer().Plan(t.Context(), o); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), s.cluster().Folder()) || !strings.Contains(transport.Hint(err), "--cluster") {
		t.Error(err)
	}
	o.Cluster = own
	if p, err := s.restorer().Plan(t.Context(), o); err != nil || p.Cluster.SystemID != own {
		t.Error(err)
	}
	o.Cluster = 4711
	if _, err := s.restorer().Plan(t.Context(), o); !errors.Is(err, ErrArchive) {
		t.Error(err)
	}
	s.flat()
	o.Cluster = 0
	if _, err := s.restorer().Plan(t.Context(), o); !errors.Is(err, ErrArchive) || transport.Hint(err) == "" {
		t.Error(err)
	}
}
