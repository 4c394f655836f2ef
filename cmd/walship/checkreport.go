package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"walship/internal/config"
)

// figures are numbers by the names that they have as metrics.
type figures map[string]float64

func (f figures) set(name string, value float64) { f[name] = value }

// report writes what was found, and the metrics. nil means that all is well.
func (c *checkup) report() error {
	worst := healthy
	for _, f := range c.findings {
		if f.health.worse(worst) {
			worst = f.health
		}
	}
	if file := c.x.String("metrics"); file != "" {
		if err := c.writeMetrics(file, worst); err != nil {
			c.fail("metrics", unknown, err)
			if unknown.worse(worst) {
				worst = unknown
			}
		}
	}
	var err error
	if c.x.Bool("json") {
		err = c.reportJSON(worst)
	} else {
		c.reportText(worst)
	}
	if err == nil && worst != healthy {
		err = verdict{worst}
	}
	return err
}

// summary is one line without a |: what is worst, or that all is well.
func (c *checkup) summary(worst health) string {
	var bad []string
	for _, h := range []health{critical, unknown, warning} {
		for _, f := range c.findings {
			if f.health == h {
				bad = append(bad, f.name+": "+f.where()+f.text)
			}
		}
	}
	switch {
	case len(bad) > 1:
		return fmt.Sprintf("%s (and %d more)", bad[0], len(bad)-1)
	case len(bad) == 1:
		return bad[0]
	}
	for _, f := range c.findings {
		if f.name == "restorable" {
			return "restorable " + f.text
		}
	}
	return "all is well"
}

// where names the archive that the finding is about, if there are several.
func (f finding) where() string {
	if f.archive == "" {
		return ""
	}
	return f.archive + ": "
}

// reportText writes the summary with figures behind it, as monitoring plugins
// do, and then a line for each check.
func (c *checkup) reportText(worst health) {
	p := c.paint()
	line := fmt.Sprintf("WALSHIP %s - %s", worst, strings.ReplaceAll(c.summary(worst), "|", "/"))
	c.print("%s%s", p.grade(worst, line), c.figures.perfData())
	for _, f := range c.findings {
		mark := map[health]string{healthy: "ok", warning: "WARNING", critical: "CRITICAL", unknown: "UNKNOWN"}[f.health]
		for i, text := range wrapped(c.short(f.where()+f.text), p.width-21) {
			if i > 0 {
				c.print("%21s%s", "", text)
				continue
			}
			c.print("%s %-10s  %s", p.grade(f.health, fmt.Sprintf("%-8s", mark)), f.name, text)
		}
		if f.hint != "" {
			for _, text := range wrapped("hint: "+c.short(f.hint), p.width-21) {
				c.print("%21s%s", "", p.faint(text))
			}
		}
	}
}

// short is text for a line of the report. Which cluster's folder a file lies in
// goes without saying.
func (c *checkup) short(text string) string {
	text = strings.ReplaceAll(text, "|", "/")
	if c.cluster.SystemID == 0 {
		return text
	}
	return strings.ReplaceAll(text, c.cluster.Folder()+"/", "")
}

// grade paints a text as its health is.
func (p paint) grade(h health, text string) string {
	switch h {
	case healthy:
		return p.green(text)
	case critical:
		return p.red(text)
	}
	return p.yellow(text)
}

// perfNames are the figures behind the summary, with their units.
var perfNames = []struct{ figure, label, unit string }{
	{"lag_segments", "lag", ""}, {"lag_bytes", "lag_bytes", "B"}, {"lag_seconds", "last", "s"},
	{"queue_segments", "queue", ""}, {"queue_oldest_seconds", "waiting", "s"},
	{"gaps", "gaps", ""}, {"stored_bytes", "stored", "B"}, {"archive_free_bytes", "free", "B"},
}

func (f figures) perfData() string {
	var all []string
	for _, n := range perfNames {
		if v, ok := f[n.figure]; ok {
			all = append(all, n.label+"="+number(v)+n.unit)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return " | " + strings.Join(all, " ")
}

// number writes a figure, to the thousandth.
func number(v float64) string { return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64) }

type jsonCheck struct {
	Version int                `json:"format_version"`
	Status  string             `json:"status"` // OK, WARNING, CRITICAL, UNKNOWN
	Code    int                `json:"code"`
	Summary string             `json:"summary"`
	Time    time.Time          `json:"time"`
	Archive string             `json:"archive,omitempty"`
	Cluster string             `json:"system_identifier,omitempty"`
	Checks  []jsonFinding      `json:"checks"`
	Figures map[string]float64 `json:"figures"`
}

type jsonFinding struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`

	Archive string `json:"archive,omitempty"` // of several
}

func (c *checkup) reportJSON(worst health) error {
	j := jsonCheck{
		Version: 1, Status: worst.String(), Code: int(worst), Summary: c.summary(worst), Time: time.Now().UTC().Truncate(time.Second),
		Checks: []jsonFinding{}, Figures: c.figures,
	}
	if c.conf != nil {
		j.Archive = config.MaskURL(c.conf.Archive)
	}
	if c.cluster.SystemID != 0 {
		j.Cluster = c.cluster.Folder()
	}
	for _, f := range c.findings {
		j.Checks = append(j.Checks, jsonFinding{f.name, f.health.String(), f.text, f.hint, f.archive})
	}
	e := json.NewEncoder(plainJSON{c.out})
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(j)
}

// metricHelp says what each figure is, in Prometheus' own words.
var metricHelp = map[string]string{
	"archive_free_bytes":                "Free bytes on the archive's disk.",
	"archive_size_bytes":                "Size of the archive's disk.",
	"archived_total":                    "Files archived, as pg_stat_archiver counts them.",
	"backups":                           "Base backups that can be restored.",
	"clock_skew_seconds":                "How far the archive's clock is ahead of this machine's.",
	"damaged_files":                     "Stored files that cannot be whole.",
	"failed_total":                      "Failed attempts to archive, as pg_stat_archiver counts them.",
	"gaps":                              "Rows of missing segments.",
	"lag_bytes":                         "Bytes of finished segments that are not archived.",
	"lag_seconds":                       "Seconds since the newest segment was stored.",
	"lag_segments":                      "Finished segments that are not archived.",
	"last_backup_timestamp_seconds":     "When the newest base backup that can be restored ended.",
	"last_drill_timestamp_seconds":      "When the last drill that has passed began.",
	"last_stored_timestamp_seconds":     "When the newest segment was stored.",
	"last_success_timestamp_seconds":    "When the server last archived a file.",
	"pg_wal_free_bytes":                 "Free bytes on the disk of pg_wal.",
	"pg_wal_full_seconds":               "Seconds until the disk of pg_wal is full at the present rate.",
	"queue_oldest_seconds":              "How long the oldest file has waited to be archived.",
	"queue_segments":                    "Files that wait to be archived.",
	"refused_files":                     "Files under refused/.",
	"restorable_from_timestamp_seconds": "The earliest time that can be restored without a gap to the latest.",
	"restorable_to_timestamp_seconds":   "The latest time that can be restored.",
	"segments":                          "Segments in the archive.",
	"stored_bytes":                      "Bytes of WAL in the archive, as stored.",
	"timeline":                          "The newest timeline in the archive.",
}

// counters are the figures that only grow, but for a reset.
var counters = map[string]bool{"archived_total": true, "failed_total": true}

// metrics is the text format of Prometheus.
func (c *checkup) metrics(worst health) string {
	var b strings.Builder
	label := ""
	if c.cluster.SystemID != 0 {
		label = fmt.Sprintf("{cluster=%q}", c.cluster.Folder())
	}
	one := func(name, kind, help, labels string, value float64) {
		fmt.Fprintf(&b, "# HELP walship_%s %s\n# TYPE walship_%s %s\nwalship_%s%s %s\n", name, help, name, kind, name, labels, number(value))
	}
	one("check_status", "gauge", "What walship check found: 0 ok, 1 warning, 2 critical, 3 unknown.", label, float64(worst))
	one("check_timestamp_seconds", "gauge", "When walship check ran.", label, stamp(time.Now()))
	var names []string
	for name := range c.figures {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		kind := "gauge"
		if counters[name] {
			kind = "counter"
		}
		one(name, kind, metricHelp[name], label, c.figures[name])
	}
	worstOf := make(map[string]health)
	for _, f := range c.findings {
		if old, ok := worstOf[f.name]; !ok || f.health.worse(old) {
			worstOf[f.name] = f.health
		}
	}
	names = names[:0]
	for name := range worstOf {
		names = append(names, name)
	}
	sort.Strings(names)
	b.WriteString("# HELP walship_check What each part of walship check found.\n# TYPE walship_check gauge\n")
	for _, name := range names {
		labels := fmt.Sprintf("{check=%q}", name)
		if c.cluster.SystemID != 0 {
			labels = fmt.Sprintf("{cluster=%q,check=%q}", c.cluster.Folder(), name)
		}
		fmt.Fprintf(&b, "walship_check%s %d\n", labels, worstOf[name])
	}
	return b.String()
}

// writeMetrics replaces the file at once, so that nobody reads half of it.
func (c *checkup) writeMetrics(file string, worst health) error {
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = temp.WriteString(c.metrics(worst))
	err = errors.Join(err, temp.Chmod(0o644), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		os.Remove(temp.Name())
	}
	return err
}
