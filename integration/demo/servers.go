package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"walship/internal/testpg"
)

// launch starts a server and waits until it answers.
func (d *scene) launch(c *testpg.Cluster) {
	d.look()
	d.check(c.Launch())
	d.wait(limit, "the server to start", func() bool {
		d.alive(c)
		return c.WaitReady(100*time.Millisecond) == nil
	})
}

// alive ends the story if the server has ended.
func (d *scene) alive(c *testpg.Cluster) {
	if !c.Running() {
		d.Fatalf("the server in %s has ended:\n%s", c.Data, c.Log())
	}
}

// waiting is how many segments wait to be archived.
func (d *scene) waiting() int {
	marks, err := filepath.Glob(filepath.Join(d.primary.Data, "pg_wal", "archive_status", "*.ready"))
	d.check(err)
	return len(marks)
}

// settle waits until everything is archived.
func (d *scene) settle() {
	d.wait(limit, "the archiver to come to an end", func() bool {
		d.alive(d.primary)
		return d.waiting() == 0
	})
}

// said is walship's last complaint in a server's log.
func said(log string) string {
	all := regexp.MustCompile(`(?m)^walship: push: .*$`).FindAllString(log, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// archive is the archive's folder, seen from its host.
type archive struct{ root string }

// storedFile is one archived segment.
type storedFile struct {
	name        string
	raw, stored int64 // bytes
}

func (f storedFile) row() string {
	return row(f.name, megabytes(f.raw), megabytes(f.stored), fmt.Sprintf("%.1f", float64(f.raw)/float64(f.stored)))
}

func row(name, raw, stored, ratio string) string {
	return fmt.Sprintf("%-24s  %8s  %8s  %6s", name, raw, stored, ratio)
}

// files lists the archived segments in order.
func (a archive) files(d *scene) []storedFile {
	paths, err := filepath.Glob(filepath.Join(a.root, "*", "wal", "*", "*.zst"))
	d.check(err)
	var all []storedFile
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".zst")
		info, err := os.Stat(path)
		if err != nil || len(name) != 24 { // no backup label
			continue
		}
		all = append(all, storedFile{name, 16 << 20, info.Size()})
	}
	slices.SortFunc(all, func(a, b storedFile) int { return strings.Compare(a.name, b.name) })
	return all
}

func total(files []storedFile) (raw, stored int64) {
	for _, f := range files {
		raw += f.raw
		stored += f.stored
	}
	return raw, stored
}

// transactions is how many pgbench's report tells of.
func transactions(report string) string {
	m := regexp.MustCompile(`number of transactions actually processed: (\d+)`).FindStringSubmatch(report)
	if m == nil {
		return "The load"
	}
	return m[1] + " transactions"
}

// holds words the answer of the counting query.
func holds(rows string) string {
	f := strings.Split(rows, "|")
	if len(f) != 3 {
		return rows
	}
	return fmt.Sprintf("%s accounts, %s in sum, %s bookings", f[0], f[1], f[2])
}

func plural(n, what string) string {
	if n == "1" {
		return n + " " + what
	}
	if strings.HasSuffix(what, "y") {
		return n + " " + strings.TrimSuffix(what, "y") + "ies"
	}
	return n + " " + what + "s"
}
