package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/testpg"
)

// What the tests of walship restore --start and --check share.

// drillReport is of what walship restore --check --json prints what tests look at.
type drillReport struct {
	Passed   bool
	ExitCode int `json:"exit_code"`
	Error    string
	Warnings []string
	SystemID string `json:"system_identifier"`
	Backup   struct {
		Name  string
		Files int64
	}
	Target     struct{ Kind, Value string }
	RestoredTo struct {
		LSN, Stop       string
		LastTransaction *time.Time `json:"last_transaction"`
		AgeSeconds      *float64   `json:"age_seconds"`
	} `json:"restored_to"`
	Seconds struct {
		Restore, Consistency, Recovery, Check, Total float64
		TimeToRecovery                               float64 `json:"time_to_recovery"`
	}
	Check struct {
		Method, Why   string
		SamplePercent float64 `json:"sample_percent"`
		Seed          *uint64
		Databases     int
		Relations     int64
		Rows          *int64
		Bytes         int64
		Problems      int64
		FirstProblems []string `json:"first_problems"`
	}
}

// drill runs a drill in the folder, as root's crontab would: with next to nothing
// in the environment, no terminal, and / as the working directory.
func (s *site) drill(dir string, args ...string) (drillReport, result) {
	s.t.Helper()
	r := run(s.t, "/", nil, s.binary, append([]string{"--config", s.config(), "restore", "--check", "--json", "--dir", dir}, args...)...)
	return s.report(r), r
}

// report reads what a drill has printed: one JSON document, and nothing else.
func (s *site) report(r result) drillReport {
	s.t.Helper()
	var report drillReport
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		s.t.Fatalf("%v: %s", err, r)
	}
	if report.ExitCode != r.code || report.Passed != (r.code == 0) || report.Passed != (report.Error == "") {
		s.t.Errorf("the report says %d, %t, %q: %s", report.ExitCode, report.Passed, report.Error, r)
	}
	return report
}

// nothingLeft checks that a drill has left no file in the folder, and no process
// that works below it.
func nothingLeft(t testing.TB, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
	}
	if pids := workingIn(dir); len(pids) > 0 {
		t.Errorf("still running: %q", pids)
	}
}

// workingIn lists the processes whose working directory lies below the folder,
// also where that has been removed.
func workingIn(dir string) (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is well formed
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, dir+"/") {
			found = append(found, filepath.Base(filepath.Dir(link))+" "+at)
		}
	}
	return found
}

// waitFile waits until a file that matches is there, and returns it.
func waitFile(t testing.TB, pattern string) string {
	t.Helper()
	var found []string
	testpg.WaitFor(t, soon, pattern, func() bool {
		found, _ = filepath.Glob(pattern) // the pattern is well formed
		return len(found) > 0
	})
	return found[0]
}

// spoil overwrites bytes in the middle of a page of a relation's file.
func spoil(t testing.TB, c *testpg.Cluster, relation string, page, at int, bytes string) {
	t.Helper()
	c.Query("checkpoint")
	path := filepath.Join(c.Data, c.Query(fmt.Sprintf("select pg_relation_filepath('%s')", relation)))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte(bytes), int64(page)*8192+int64(at))
	must(t, errors.Join(err, f.Close()))
}

// report2 is report, with the result beside it.
func (s *site) report2(r result) (drillReport, result) {
	s.t.Helper()
	return s.report(r), r
}

// primaryCommand prepares a program in a folder that every user may enter.
func primaryCommand(c *testpg.Cluster, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.Base
	return cmd
}
