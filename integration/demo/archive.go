package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

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
func (a archive) files(s *stage) []storedFile {
	paths, err := filepath.Glob(filepath.Join(a.root, "*", "wal", "*", "*.zst"))
	s.check(err)
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

// complaint is walship's last one in a server's log.
func complaint(log string) string {
	all := regexp.MustCompile(`(?m)^walship: push: .*$`).FindAllString(log, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// transactions is how many pgbench's report tells of.
func transactions(report string) string {
	m := regexp.MustCompile(`number of transactions actually processed: (\d+)`).FindStringSubmatch(report)
	if m == nil {
		return "The load"
	}
	return m[1] + " transactions"
}

// count sums up what a server holds.
const count = "select count(*), sum(abalance), (select count(*) from pgbench_history) from pgbench_accounts"

// words words the answer of the counting query.
func words(rows string) string {
	f := strings.Split(rows, "|")
	if len(f) != 3 {
		return rows
	}
	return fmt.Sprintf("%s accounts, %s in sum, %s bookings", f[0], f[1], f[2])
}

// plural counts in words.
func plural(n int, what string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(what, "y"):
		what = strings.TrimSuffix(what, "y") + "ies"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
