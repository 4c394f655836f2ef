package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walship/internal/testpg"
)

// checked is what the tests read of walship check --json.
type checked struct {
	Version int    `json:"format_version"`
	Status  string `json:"status"`
	Code    int    `json:"code"`
	Summary string `json:"summary"`
	Checks  []struct {
		Name   string `json:"name"`
		Status string `json:"status"`
		Text   string `json:"text"`
		Hint   string `json:"hint"`
	} `json:"checks"`
	Figures map[string]float64 `json:"figures"`
}

// of is the worst of what the check of that name has found, with its text.
func (c checked) of(name string) string {
	found := ""
	for _, f := range c.Checks {
		if f.Name == name && (found == "" || f.Status != "OK") {
			found = f.Status + ": " + f.Text
		}
	}
	return found
}

// check runs walship check in both forms and demands that they agree.
func (s *site) check(c *testpg.Cluster, code int, args ...string) (j checked, text string) {
	s.t.Helper()
	args = append([]string{"check"}, args...)
	r := s.as(c, args...)
	s.t.Logf("%q: %d\n%s", args, r.code, r.stdout)
	if r.code != code || r.stderr != "" {
		s.t.Fatalf("want code %d: %v", code, r)
	}
	first, _, _ := strings.Cut(r.stdout, "\n")
	status := []string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[code]
	if !strings.HasPrefix(first, "WALSHIP "+status+" - ") || strings.Count(r.stdout, "|") > 1 {
		s.t.Errorf("the first line is %q", first)
	}
	for i, line := range strings.Split(r.stdout, "\n") {
		if i > 0 && len(line) > 90 { // a path of this machine may be longer than a line
			s.t.Errorf("%d columns: %s", len(line), line)
		}
	}
	text = r.stdout
	r = s.as(c, append(args, "--json")...)
	must(s.t, json.Unmarshal([]byte(r.stdout), &j))
	if r.code != code || j.Code != code || j.Status != status || j.Version != 1 || r.stderr != "" {
		s.t.Errorf("as JSON: %v", r)
	}
	return j, text
}

// A server that archives is in order; then, one after the other, everything is
// broken that can be, and check says so each time and is well again afterwards.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := newPrimary(t, s, testpg.Options{Conf: map[string]string{"wal_keep_size": "1GB"}})
	shelve(t, s, server)
	insert(server)
	server.Archive(soon)
	data := []string{"-D", server.Data, "--min-free", "0%"}

	t.Run("well", func(t *testing.T) {
		s := s.with(t)
		metrics := filepath.Join(testpg.Dir(t), "walship.prom")
		j, text := s.check(server, 0, append(data, "--switch", "--metrics", metrics)...)
		for _, name := range []string{"archive", "write", "clock", "disk", "gaps", "restorable", "backup", "refused", "files", "fetch", "queue", "server", "archiver", "switch"} {
			if !strings.HasPrefix(j.of(name), "OK: ") {
				t.Errorf("%s: %q", name, j.of(name))
			}
		}
		if !regexp.MustCompile(`^WALSHIP OK - restorable from \S+ \S+ to \S+ \S+, without a gap \| lag=0 `).MatchString(text) {
			t.Error(text)
		}
		left, err := filepath.Glob(filepath.Join(s.folder(), "tmp", "*"))
		if err != nil || len(left) != 0 {
			t.Errorf("left %q, %v", left, err)
		}
		prom, err := os.ReadFile(metrics)
		must(t, err)
		for _, want := range []string{`walship_check_status{cluster="\d+"} 0`, `walship_check{cluster="\d+",check="archiver"} 0`, `walship_lag_segments{cluster="\d+"} 0`,
			`walship_gaps{cluster="\d+"} 0`, `walship_restorable_to_timestamp_seconds{cluster="\d+"} 1\d{9}`, `walship_archived_total{cluster="\d+"} [1-9]\d*`} {
			if !regexp.MustCompile("(?m)^" + want + "$").Match(prom) {
				t.Errorf("no %s in\n%s", want, prom)
			}
		}
		for line := range strings.Lines(string(prom)) {
			if !regexp.MustCompile(`^(# (HELP|TYPE) walship_\w+ .+|walship_\w+(\{(\w+="[^"]*",?)+\})? -?[0-9.]+)\n$`).MatchString(line) {
				t.Errorf("no metric: %q", line)
			}
		}
	})
	t.Run("without the server", func(t *testing.T) {
		s := s.with(t)
		if j, _ := s.check(server, 0, append(data, "--archive-only")...); j.of("archiver") != "" {
			t.Error("the server was asked")
		}
	})
	t.Run("no drill", func(t *testing.T) {
		s := s.with(t)
		j, text := s.check(server, 1, append(data, "--archive-only", "--max-drill-age", "30d")...)
		if j.of("drill") != "WARNING: none is recorded in the archive" || !strings.Contains(text, "hint: walship restore --check is one") {
			t.Error(j.of("drill"), text)
		}
		if j, _ = s.check(server, 0, append(data, "--archive-only")...); j.of("drill") != "" {
			t.Error(j.of("drill"))
		}
	})
	t.Run("refused", func(t *testing.T) {
		s := s.with(t)
		refused := filepath.Join(s.folder(), "refused", "000000010000000000000009.0badc0de.zst")
		must(t, os.WriteFile(refused, []byte("x"), 0o644))
		j, _ := s.check(server, 1, data...)
		if j.of("refused") != "WARNING: 1 file, such as "+filepath.Base(refused) {
			t.Error(j.of("refused"))
		}
		must(t, os.Remove(refused))
	})
	t.Run("a torn file, and a missing one", func(t *testing.T) {
		s := s.with(t)
		last := s.stored(server.Query("select last_archived_wal from pg_stat_archiver"))
		whole, err := os.ReadFile(last)
		must(t, err)
		must(t, os.Truncate(last, int64(len(whole)-1)))
		j, _ := s.check(server, 2, data...)
		if !strings.Contains(j.of("files"), "CRITICAL: 1 damaged: ") || !strings.Contains(j.of("files"), filepath.Base(last)) {
			t.Error(j.of("files"))
		}
		if !strings.HasPrefix(j.of("fetch"), "CRITICAL") {
			t.Error(j.of("fetch"))
		}
		must(t, os.Remove(last))
		j, _ = s.check(server, 2, data...)
		if !strings.Contains(j.of("archiver"), "this archive does not hold it") {
			t.Error(j.of("archiver"))
		}
		must(t, os.WriteFile(last, whole, 0o644))
		insert(server)
		server.Archive(soon)
		must(t, os.Rename(last, last+".away"))
		j, _ = s.check(server, 2, data...)
		if name := strings.TrimSuffix(filepath.Base(last), ".zst"); !strings.HasPrefix(j.of("gaps"), "CRITICAL: "+name+" is missing") || j.Figures["gaps"] != 1 {
			t.Error(j.of("gaps"))
		}
		must(t, os.Rename(last+".away", last))
	})
	t.Run("archiving fails", func(t *testing.T) {
		s := s.with(t)
		server.SetConf(map[string]string{"archive_command": "false"})
		must(t, server.Reload())
		insert(server)
		name := server.SwitchWAL()
		testpg.WaitFor(t, soon, "archiving to fail", func() bool {
			return server.Query("select coalesce(last_failed_wal, '') from pg_stat_archiver") == name
		})
		j, _ := s.check(server, 2, data...)
		if !strings.Contains(j.of("archiver"), "archiving fails: "+name) || !strings.Contains(j.of("queue"), "1 file waits to be archived") {
			t.Error(j.of("archiver"), j.of("queue"))
		}
		if j, _ = s.check(server, 2, append(data, "--max-wait", "1ms")...); !strings.HasPrefix(j.of("queue"), "CRITICAL") {
			t.Error(j.of("queue"))
		}
		// A command that lies.
		server.SetConf(map[string]string{"archive_command": "true"})
		must(t, server.Reload())
		server.WaitArchived(soon, name)
		testpg.WaitFor(t, soon, "the server to say so", func() bool {
			return server.Query("select last_archived_wal from pg_stat_archiver") == name
		})
		j, _ = s.check(server, 2, data...)
		if want := fmt.Sprintf("the server has archived %s, and this archive does not hold it", name); !strings.Contains(j.of("archiver"), want) {
			t.Error(j.of("archiver"))
		}
	})
	t.Run("the archive is away", func(t *testing.T) {
		s := s.with(t)
		must(t, os.Rename(s.root, s.root+".away"))
		if j, _ := s.check(server, 2, data...); !strings.Contains(j.of("archive"), "its folder does not exist") || !strings.HasPrefix(j.of("server"), "OK") {
			t.Error(j.of("archive"), j.of("server"))
		}
		must(t, os.Rename(s.root+".away", s.root))
		s.sshd.Stop()
		if j, _ := s.check(server, 2, data...); !strings.Contains(j.of("archive"), "archive unreachable") {
			t.Error(j.of("archive"))
		}
	})
	t.Run("the server is away", func(t *testing.T) {
		s := s.with(t)
		s.sshd.Restart()
		must(t, server.Stop(testpg.Fast))
		if j, _ := s.check(server, 3, data...); !strings.HasPrefix(j.of("server"), "UNKNOWN: ") {
			t.Error(j.of("server"))
		}
	})
}

// with is the site for a subtest.
func (s *site) with(t testing.TB) *site {
	own := *s
	own.t = t
	return &own
}

// What keeps a check from being made is UNKNOWN, and never green.
func TestCheckUnknown(t *testing.T) {
	t.Parallel()
	a := newGuardArchive(t)
	for _, c := range []struct {
		args []string
		code int
		want string // of either output
	}{
		{[]string{"check"}, 3, "no archive is set"},
		{[]string{"check", "--archive", "ftp://x"}, 3, "WALSHIP UNKNOWN - config: "},
		{[]string{"check", "--archive", "file://" + a.root, "--max-wait", "soon"}, 3, "--max-wait"},
		{[]string{"check", "--archive", "file://" + a.root, "--min-free", "200%"}, 3, "--min-free"},
		{[]string{"check", "--archive", "file://" + a.root, "--max-drill-age", "0"}, 3, "--max-drill-age"},
		{[]string{"check", "--archive", "file://" + a.root, "--nonsense"}, 3, "nonsense"},
		{[]string{"check", "--archive", "file://" + a.root, "--cluster", "x"}, 3, "is not a system identifier"},
		{[]string{"check", "--archive", "file://" + a.root, "more"}, 3, "1 arguments instead of 0"},
		{[]string{"check", "--archive", "file://" + a.root}, 2, "WALSHIP CRITICAL - archive: "},
		{[]string{"check", "--archive", "file://" + a.root, "-D", a.root}, 2, "not a PostgreSQL data directory"},
	} {
		r := run(t, t.TempDir(), nil, a.walship, c.args...)
		if r.code != c.code || !strings.Contains(r.stderr+r.stdout, c.want) {
			t.Errorf("%q: %v", c.args, r)
		}
	}
	r := run(t, t.TempDir(), nil, a.walship, "check", "--archive", "file://"+a.root, "--metrics", a.root+"/no/folder/file")
	if !strings.Contains(r.stdout, "UNKNOWN  metrics") {
		t.Error(r)
	}
}
