package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/testpg"
	"walship/walname"
)

// as runs walship as the server's user, with the site's configuration, and
// returns its exit code and what it wrote.
func (s *site) as(c *testpg.Cluster, args ...string) result {
	s.t.Helper()
	cmd, err := c.Command(s.binary, append([]string{"--config", s.config()}, args...)...)
	must(s.t, err)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// folder is the cluster's own in the archive.
func (s *site) folder() string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.root, "[0-9]*"))
	must(s.t, err)
	if len(found) != 1 {
		s.t.Fatalf("the archive holds %q", found)
	}
	return found[0]
}

// shelve puts a base backup into the archive as far as a listing can see: the
// places are the server's, the files are empty words.
func shelve(t testing.TB, s *site, c *testpg.Cluster) string {
	t.Helper()
	out := c.Query(`select pg_backup_start('shelved', true);
select lsn, timeline_id, system_identifier, now() from pg_backup_stop(false), pg_control_checkpoint(), pg_control_system();`)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	start, err := walname.ParseLSN(lines[0])
	must(t, err)
	fields := strings.Split(lines[len(lines)-1], "|")
	end, err := walname.ParseLSN(fields[0])
	must(t, err)
	var tl walname.Timeline
	var id uint64
	_, err = fmt.Sscanf(fields[1]+" "+fields[2], "%d %d", &tl, &id)
	must(t, err)
	c.Archive(soon) // with the backup's end

	g := walname.Geometry{SegmentSize: walname.DefaultSegmentSize}
	now := time.Now().UTC().Truncate(time.Second)
	m := basebackup.Manifest{
		Backup: basebackup.ID{Start: g.At(tl, start), Time: now}.String(), SystemID: id, PostgreSQL: fmt.Sprint(c.Major), Server: fmt.Sprint(c.Major),
		SegmentSize: g.SegmentSize, Method: "protocol", Begin: now, End: now, Timeline: tl, StartLSN: start, EndLSN: end, Files: 1, Size: 20_000_000, StoredSize: 900,
	}
	text, err := m.Marshal()
	must(t, err)
	dir := filepath.Join(s.folder(), "base", m.Backup)
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "base-000001.tar.zst"), make([]byte, 900), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, basebackup.ManifestFile), text, 0o644))
	return m.Backup
}

// listed is what the tests read of walship list --json.
type listed struct {
	Version  int `json:"format_version"`
	Clusters []struct {
		ID         string `json:"system_identifier"`
		PostgreSQL string `json:"postgresql"`
		Restorable *struct {
			Timeline int    `json:"timeline"`
			Whole    bool   `json:"whole"`
			Oldest   string `json:"oldest_backup"`
			Missing  string `json:"missing_segment"`
			Backups  int    `json:"backups"`
		} `json:"restorable"`
		Timelines []struct {
			Timeline int `json:"timeline"`
			Parent   *struct {
				Timeline int    `json:"timeline"`
				LSN      string `json:"switch_lsn"`
			} `json:"parent"`
			Segments int               `json:"segments"`
			Partials []json.RawMessage `json:"partials"`
			Labels   []json.RawMessage `json:"backup_labels"`
		} `json:"timelines"`
		Gaps []struct {
			First string `json:"first_segment"`
			Last  string `json:"last_segment"`
		} `json:"gaps"`
		Backups []struct {
			Name       string `json:"name"`
			State      string `json:"state"`
			Restorable bool   `json:"restorable"`
			Along      int    `json:"along_timeline"`
			Missing    string `json:"missing_segment"`
		} `json:"backups"`
		Refused []struct {
			Name string `json:"name"`
		} `json:"refused"`
		Damaged []struct {
			Name string `json:"name"`
		} `json:"damaged"`
	} `json:"clusters"`
}

func (s *site) list(c *testpg.Cluster, args ...string) (l listed) {
	s.t.Helper()
	r := s.as(c, append([]string{"list", "--json"}, args...)...)
	if r.code != 0 || r.stderr != "" {
		s.t.Fatal(r)
	}
	must(s.t, json.Unmarshal([]byte(r.stdout), &l))
	if l.Version != 1 || len(l.Clusters) != 1 {
		s.t.Fatal(r)
	}
	return l
}

// failedOver is an archive that a server has made whose place two standbys have
// taken, one after the other. There are three backups in it, one of each
// timeline.
func failedOver(t *testing.T) (s *site, server *testpg.Cluster, backups []string) {
	t.Helper()
	s = newSite(t)
	server = newPrimary(t, s, testpg.Options{})
	base := backup(t, server, false)
	backups = append(backups, shelve(t, s, server))
	for tl := 2; tl <= 3; tl++ {
		// The first standby knows what is archived, the second one streams, so that
		// the timeline is left within a segment.
		stream := tl == 3
		next := follow(t, s, base, map[bool]*testpg.Cluster{true: server}[stream])
		insert(server)
		server.Archive(soon)
		insert(server)
		if !stream {
			server.Archive(soon)
		}
		waitContents(t, next, mustContents(t, server))
		must(t, server.Kill9())
		must(t, next.Promote())
		must(t, next.WaitPrimary(soon))
		testpg.WaitFor(t, soon, "the history to be archived", func() bool {
			_, err := os.Stat(filepath.Join(s.folder(), "history", fmt.Sprintf("%08X.history.zst", tl)))
			return err == nil
		})
		insert(next)
		server = next
		backups = append(backups, shelve(t, s, server))
	}
	server.Archive(soon)
	return s, server, backups
}

// What happened to an archive is what list tells, in JSON and in 80 columns.
func TestList(t *testing.T) {
	t.Parallel()
	s, server, backups := failedOver(t)

	// While all is well, everything can be restored to the end.
	l := s.list(server, "-D", server.Data).Clusters[0]
	if r := l.Restorable; r == nil || !r.Whole || r.Timeline != 3 || r.Oldest != backups[0] || r.Backups != 3 || len(l.Gaps)+len(l.Damaged)+len(l.Refused) != 0 || l.PostgreSQL != "15" {
		t.Fatalf("%+v", l)
	}
	if len(l.Timelines) != 3 || l.Timelines[0].Parent != nil || l.Timelines[1].Parent.Timeline != 1 || l.Timelines[2].Parent.Timeline != 2 {
		t.Fatalf("%+v", l.Timelines)
	}
	if len(l.Timelines[0].Labels) == 0 || len(l.Timelines[1].Partials) != 1 {
		t.Errorf("no label of pg_basebackup, or no partial segment: %+v", l.Timelines)
	}
	for i, tl := range l.Timelines {
		folder, err := filepath.Glob(filepath.Join(s.folder(), "wal", fmt.Sprintf("%08X00000000", i+1), strings.Repeat("?", 24)+".zst"))
		must(t, err)
		if tl.Segments != len(folder) || tl.Segments < 2 {
			t.Errorf("timeline %d: %d segments, %d files", i+1, tl.Segments, len(folder))
		}
	}

	// A file is lost, another one torn, something was refused.
	lost := s.stored(segmentAfter(t, backups[0], 1))
	must(t, os.Remove(lost))
	torn := s.stored(segmentAfter(t, backups[2], 1))
	must(t, os.Truncate(torn, 100))
	refused := filepath.Join(s.folder(), "refused", "000000010000000000000009.0badc0de.zst")
	must(t, os.WriteFile(refused, []byte("x"), 0o644))

	l = s.list(server).Clusters[0]
	gap := strings.TrimSuffix(filepath.Base(lost), ".zst")
	if len(l.Gaps) != 2 || l.Gaps[0].First != gap || l.Gaps[0].Last != gap || len(l.Damaged) != 1 || !strings.HasSuffix(l.Damaged[0].Name, filepath.Base(torn)) || len(l.Refused) != 1 {
		t.Errorf("lost %s, torn %s: %+v", lost, torn, l)
	}
	if r := l.Restorable; r == nil || r.Whole || r.Missing != strings.TrimSuffix(filepath.Base(torn), ".zst") {
		t.Errorf("%+v", l.Restorable)
	}
	if l.Backups[0].Missing != gap || !l.Backups[0].Restorable {
		t.Errorf("the first backup: %+v", l.Backups[0])
	}

	r := s.as(server, "list", "-D", server.Data, "--wal-per", "day")
	t.Log(r.stdout)
	for _, want := range []string{
		`(?m)^o timeline 1$`, `(?m)^o timeline 2, left timeline 1 at [0-9A-F]+/[0-9A-F]+$`, `(?m)^o timeline 3, left timeline 2 at `,
		`(?m)^\| GAP       ` + gap + ` is missing$`, `(?m)^\| backup    ` + backups[0] + `$`, `then ` + gap + ` is missing`,
		`(?m)^DAMAGED   wal/.*` + filepath.Base(torn) + `$`, `(?m)^refused   000000010000000000000009.0badc0de.zst, `,
		`(?m)^restorable from \d{4}-.* to \d{4}-.*, and no further$`, `(?m)^\d{4}-\d\d-\d\d +[\d.]+ MB #+$`,
	} {
		if !regexp.MustCompile(want).MatchString(r.stdout) {
			t.Errorf("no %s", want)
		}
	}
	for line := range strings.Lines(r.stdout) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
	if r := s.as(server, "list", "--long", "--timeline", "2"); r.code != 0 || !strings.Contains(r.stdout, "00000002.history.zst") || strings.Contains(r.stdout, "\n00000003") {
		t.Error(r)
	}
}

// segmentAfter is the name of the n-th segment behind a backup's first one.
func segmentAfter(t testing.TB, backup string, n uint64) string {
	t.Helper()
	id, err := basebackup.ParseID(backup)
	must(t, err)
	g := walname.Geometry{SegmentSize: walname.DefaultSegmentSize}
	return g.FromNumber(id.Start.Timeline, g.Number(id.Start)+n).String()
}

// An archive that is not there, or another's, is an error and never an empty list.
func TestListDoubt(t *testing.T) {
	t.Parallel()
	a := newGuardArchive(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"list", "--archive", "file://" + a.root + "/absent"}, 7, "is the disk mounted"},
		{[]string{"list", "--archive", "file://" + a.root}, 7, "it holds no cluster"},
		{[]string{"list", "--archive", "file://" + a.root, "--cluster", "17"}, 7, "it holds nothing of cluster 17"},
		{[]string{"list", "--archive", "file://" + a.root, "--cluster", "x"}, 2, "is not a system identifier"},
		{[]string{"list", "--archive", "file://" + a.root, "--since", "x"}, 2, "--since"},
		{[]string{"list", "--archive", "file://" + a.root, "--wal-per", "week"}, 2, "want hour or day"},
		{[]string{"list", "--archive", "file://" + a.root, "more"}, 2, "1 arguments instead of 0"},
	} {
		r := run(t, t.TempDir(), nil, a.walship, c.args...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("%q: %v", c.args, r)
		}
	}
}
