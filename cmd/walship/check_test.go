package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/restore"
)

// What is known to be bad counts most, what is not known more than a warning.
func TestHealthWorse(t *testing.T) {
	order := []health{healthy, warning, unknown, critical}
	for i, a := range order {
		for j, b := range order {
			if a.worse(b) != (i > j) {
				t.Errorf("%s worse than %s: %v", a, b, a.worse(b))
			}
		}
	}
}

// Monitoring reads the exit code, and a recovering server must not take it for
// an answer of restore_command's.
func TestCheckCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		mode pgdata.Mode
		want int
	}{
		{nil, pgdata.ByHand, 0},
		{verdict{warning}, pgdata.ByHand, 1},
		{verdict{critical}, pgdata.ByHand, 2},
		{fmt.Errorf("so: %w", verdict{unknown}), pgdata.Standby, 3},
		{errors.New("x"), pgdata.ByHand, 3},
		{usage("x"), pgdata.ByHand, 3},
		{restore.ErrArchive, pgdata.ByHand, 3},
		{usage("x"), pgdata.ArchiveRecovery, 126},
	} {
		if got := (caller{command: "check", mode: c.mode}).code(c.err); got != c.want {
			t.Errorf("%v, %v: %d, want %d", c.err, c.mode, got, c.want)
		}
	}
}

func TestQueue(t *testing.T) {
	dir := t.TempDir()
	if _, err := readQueue(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	status := filepath.Join(dir, "archive_status")
	if err := os.Mkdir(status, 0o700); err != nil {
		t.Fatal(err)
	}
	if q, err := readQueue(dir); err != nil || q.segments != 0 || !q.oldest.IsZero() {
		t.Errorf("%+v, %v", q, err)
	}
	for i, name := range []string{"000000010000000000000003.ready", "000000010000000000000002.done", "000000010000000000000004.ready", "00000002.history.ready"} {
		file := filepath.Join(status, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, noon, noon.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	q, err := readQueue(dir)
	if err != nil || q.segments != 3 || !q.oldest.Equal(noon) || q.first != "000000010000000000000003" {
		t.Errorf("%+v, %v", q, err)
	}
}

// The disk is full when as much has come again as is free.
func TestUntilFull(t *testing.T) {
	const mb16 = 16 << 20
	for _, c := range []struct {
		segments int64
		since    time.Duration
		free     int64
		want     time.Duration
		ok       bool
	}{
		{6, 10 * time.Minute, 6 * mb16, 10 * time.Minute, true},
		{60, time.Hour, 600 * mb16, 10 * time.Hour, true},
		{60, time.Hour, 0, 0, true},
		{2, time.Hour, mb16, 0, false},           // too few to tell
		{6, 0, mb16, 0, false},                   // too soon
		{3, 1000 * time.Hour, 1 << 55, 0, false}, // never
	} {
		got, ok := (queue{segments: c.segments, oldest: noon}).untilFull(c.free, mb16, noon.Add(c.since))
		if ok != c.ok || (got-c.want).Abs() > time.Second {
			t.Errorf("%+v: %v, %v", c, got, ok)
		}
	}
}

// A summary is one line, whatever the archive's names are; figures stand behind
// its only |.
func TestReportText(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := &checkup{program: &program{voice: &voice{out: f, err: f}}, cluster: layout.Cluster{SystemID: 7}, figures: figures{"gaps": 2, "lag_seconds": 1.23456}}
	c.say("archive", healthy, "fine")
	c.say("gaps", warning, "one | two\nthree \x1b[31m")
	c.hint("do | this")
	c.fail("server", critical, errors.New("no | \x00 server"))
	c.say("queue", unknown, "%s", strings.Repeat("word ", 30))
	c.reportText(critical)
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "check.txt", string(b))
}

func TestMetrics(t *testing.T) {
	c := &checkup{cluster: layout.Cluster{SystemID: 7}, figures: figures{"gaps": 2, "failed_total": 5}}
	c.say("archive", healthy, "fine")
	c.say("files", warning, "so so")
	c.say("files", critical, "bad")
	c.say("files", healthy, "well")
	text := c.metrics(critical)
	for _, want := range []string{
		"walship_check_status{cluster=\"7\"} 2\n", "# TYPE walship_gaps gauge\nwalship_gaps{cluster=\"7\"} 2\n", "# TYPE walship_failed_total counter\n",
		"walship_check{cluster=\"7\",check=\"archive\"} 0\nwalship_check{cluster=\"7\",check=\"files\"} 2\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
