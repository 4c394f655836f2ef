package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"walship/internal/pgcheck"
	"walship/internal/pgrun"
	"walship/restore"
)

// drillResult is what a drill prints, with --json in this form: see docs/drill.md.
// What a drill has not come to is zero, null or empty.
type drillResult struct {
	Passed   bool      `json:"passed"`
	ExitCode int       `json:"exit_code"`
	Error    string    `json:"error"`
	Hint     string    `json:"hint"`
	Walship  string    `json:"walship"`
	Began    time.Time `json:"began"`
	Warnings []string  `json:"warnings"`

	SystemID   string       `json:"system_identifier"`
	PostgreSQL string       `json:"postgresql"`
	Backup     *drillBackup `json:"backup"`
	Target     drillTarget  `json:"target"`
	RestoredTo drillReached `json:"restored_to"`
	Seconds    drillSeconds `json:"seconds"`
	Check      drillCheck   `json:"check"`
}

type drillBackup struct {
	Name       string    `json:"name"`
	End        time.Time `json:"end"`
	Files      int64     `json:"files"`
	Size       int64     `json:"size"`
	StoredSize int64     `json:"stored_size"`
}

type drillTarget struct {
	Kind     string `json:"kind"` // latest, immediate, time, lsn, name, xid
	Value    string `json:"value"`
	Timeline uint32 `json:"timeline"`
}

type drillReached struct {
	LSN  string `json:"lsn"`
	Stop string `json:"stop"` // the server's own words
	// LastTransaction is when the last transaction was committed that was
	// replayed; null if none was.
	LastTransaction *time.Time `json:"last_transaction"`
	// AgeSeconds is how long before the drill that was.
	AgeSeconds *float64 `json:"age_seconds"`
}

type drillSeconds struct {
	Restore        float64 `json:"restore"`
	Consistency    float64 `json:"consistency"`      // from the server's start
	Recovery       float64 `json:"recovery"`         // from the server's start until it is open
	TimeToRecovery float64 `json:"time_to_recovery"` // from the drill's beginning until it is open
	Check          float64 `json:"check"`
	Total          float64 `json:"total"`
}

type drillCheck struct {
	Method        string   `json:"method"` // pg_amcheck, read, "" if it did not come to that
	Why           string   `json:"why"`    // why not pg_amcheck
	SamplePercent float64  `json:"sample_percent"`
	Seed          *uint64  `json:"seed"`
	Databases     int      `json:"databases"`
	Relations     int64    `json:"relations"`
	Rows          *int64   `json:"rows"` // null with pg_amcheck, which does not count them
	Bytes         int64    `json:"bytes"`
	Problems      int64    `json:"problems"`
	FirstProblems []string `json:"first_problems"`
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

func (r *drillResult) planned(plan *restore.Plan) {
	m := plan.Manifest
	r.SystemID, r.PostgreSQL = fmt.Sprint(m.SystemID), m.PostgreSQL
	r.Backup = &drillBackup{m.Backup, m.End.UTC(), m.Files, m.Size, m.StoredSize}
	r.Target = drillTarget{string(plan.Target.Kind), plan.Target.Value(), uint32(plan.Timeline)}
	if plan.Target.Kind == restore.Latest {
		r.Target.Kind = "latest"
	}
}

// lastForm is how the server writes the time of the last transaction.
const lastForm = "2006-01-02 15:04:05.999999-07"

func (r *drillResult) recovered(out pgrun.Outcome, began time.Time) {
	if out.Report.Done != 0 {
		r.RestoredTo.LSN = out.Report.Done.String()
	}
	r.RestoredTo.Stop = out.Report.Stop
	if t, err := time.Parse(lastForm, out.Report.Last); err == nil {
		t = t.UTC()
		age := seconds(began.Sub(t))
		r.RestoredTo.LastTransaction, r.RestoredTo.AgeSeconds = &t, &age
	}
}

func (r *drillResult) checked(c pgcheck.Result, o checkOptions) {
	r.Check.Method, r.Check.Why = c.Method, c.Why
	r.Check.SamplePercent = o.share * 100
	if o.share < 1 {
		r.Check.Seed = &o.seed
	}
	r.Check.Databases, r.Check.Relations, r.Check.Bytes, r.Check.Problems = c.Databases, c.Relations, c.Bytes, c.Problems
	if c.Method == pgcheck.Read {
		r.Check.Rows = &c.Rows
	}
}

// printJSON prints the result of a drill that ended with err.
func (d *drilling) printJSON(ctx context.Context, err error) error {
	text, err := d.jsonText(ctx, err)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.program.out, "%s\n", text)
	return err
}

// jsonText is the result of a drill that ended with err, as JSON.
func (d *drilling) jsonText(ctx context.Context, err error) ([]byte, error) {
	r := d.result
	r.Passed, r.ExitCode, r.Walship = err == nil, d.code(err), version
	if err != nil {
		r.Error, r.Hint = oneLine(err.Error()), oneLine(advice(err))
		if s := signalOf(ctx); s != nil {
			r.ExitCode = d.signalCode(s)
		}
	}
	if r.Warnings == nil {
		r.Warnings = []string{}
	}
	if r.Check.FirstProblems == nil {
		r.Check.FirstProblems = []string{}
	}
	return json.MarshalIndent(r, "", "  ")
}

// print prints the result for people, as far as the drill came.
func (d *drilling) print(err error) {
	r := d.result
	if r.Backup == nil {
		return
	}
	verdict := "drill passed"
	if err != nil {
		verdict = "drill FAILED"
	}
	line := func(what, format string, args ...any) {
		d.program.print("  %-17s %s", what, fmt.Sprintf(format, args...))
	}
	d.program.print("%s: cluster %s, PostgreSQL %s", verdict, r.SystemID, r.PostgreSQL)
	line("backup", "%s", r.Backup.Name)
	line("", "%s in %d files, stored in %s", bytesText(r.Backup.Size), r.Backup.Files, bytesText(r.Backup.StoredSize))
	line("target", "%s", d.plan.Target)
	if r.RestoredTo.LSN != "" {
		line("restored to", "LSN %s", r.RestoredTo.LSN)
	}
	if t := r.RestoredTo.LastTransaction; t != nil {
		line("last transaction", "%s", t.Format("2006-01-02 15:04:05 MST"))
		line("", "%s before the drill began", time.Duration(*r.RestoredTo.AgeSeconds*float64(time.Second)).Round(time.Second))
	}
	if r.Seconds.Restore > 0 {
		line("restore", "%.1f s", r.Seconds.Restore)
	}
	if r.Seconds.Recovery > 0 {
		line("recovery", "%.1f s, consistent after %.1f s", r.Seconds.Recovery, r.Seconds.Consistency)
	}
	if r.Seconds.TimeToRecovery > 0 {
		line("time to recovery", "%.1f s", r.Seconds.TimeToRecovery)
	}
	if r.Check.Method != "" {
		d.printCheck(line)
	}
	line("all in all", "%.1f s", r.Seconds.Total)
}

func (d *drilling) printCheck(line func(what, format string, args ...any)) {
	c := d.result.Check
	by := c.Method
	if c.Method == pgcheck.Read {
		by = "every row read"
	}
	line("check", "%.1f s, %s: %s", d.result.Seconds.Check, by, count(c.Problems, "problem"))
	if c.Why != "" {
		line("", "%s", c.Why)
	}
	rows := ""
	if c.Rows != nil {
		rows = fmt.Sprintf(", %d rows", *c.Rows)
	}
	line("", "%d databases, %d relations%s, %s", c.Databases, c.Relations, rows, bytesText(c.Bytes))
	if c.Seed != nil {
		line("", "a sample of %g%%, --seed %d", c.SamplePercent, *c.Seed)
	}
}

func count(n int64, what string) string {
	switch n {
	case 0:
		return "no " + what + "s"
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
