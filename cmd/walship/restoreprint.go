package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"walship/internal/pgrun"
	"walship/restore"
)

// printPlan says what is going to be restored.
func (p *program) printPlan(plan *restore.Plan) {
	m := plan.Manifest
	p.print("backup    %s of cluster %d", m.Backup, m.SystemID)
	p.print("          PostgreSQL %s, ended %s, LSN %s", m.PostgreSQL, m.End.Local().Format("2006-01-02 15:04:05-07:00"), m.EndLSN)
	p.print("          %s in %d files, %s stored", bytesText(m.Size), m.Files, bytesText(m.StoredSize))
	p.print("target    %s", plan.Target)
	p.print("timeline  %d", plan.Timeline)
	p.print("WAL       %s", walText(plan))
	p.print("into      %s", plan.Dir)
	for _, t := range plan.Tablespaces {
		if t.To != "" {
			p.print("          %s for tablespace %d", t.To, t.OID)
		}
	}
}

func walText(plan *restore.Plan) string {
	switch plan.Segments {
	case 0:
		return "none is archived from " + plan.First.String() + " on"
	case 1:
		return plan.Last.String()
	}
	return fmt.Sprintf("%s to %s, %d segments", plan.First, plan.Last, plan.Segments)
}

// actionText says what the server does when recovery has come to its end.
func actionText(plan *restore.Plan, action restore.Action) string {
	switch {
	case plan.Standby:
		return "the server goes on recovering as a standby"
	case plan.Target.Kind == restore.Latest:
		return "at the end of the WAL the server opens for writing, on a new timeline"
	case action == restore.Pause && plan.Version >= 100000:
		return "at the target the server pauses and can be read; to open it: select pg_wal_replay_resume()"
	case action == restore.Pause:
		return "at the target the server pauses and can be read; to open it: select pg_xlog_replay_resume()"
	case action == restore.Shutdown:
		return "at the target the server shuts down"
	}
	return "at the target the server opens for writing, on a new timeline"
}

// restored is what walship restore --json prints. The schema only grows.
type restored struct {
	Restored    bool            `json:"restored"` // false with --dry-run
	Cluster     string          `json:"system_identifier"`
	Backup      string          `json:"backup"`
	BackupEnd   time.Time       `json:"backup_end"`
	PostgreSQL  string          `json:"postgresql"`
	Directory   string          `json:"data_directory"`
	Target      string          `json:"target"` // latest, immediate, time, lsn, name, xid
	Value       string          `json:"target_value,omitempty"`
	Exclusive   bool            `json:"target_exclusive"`
	Action      string          `json:"action,omitempty"` // pause, promote, shutdown; none for a standby, or before it is known
	Standby     bool            `json:"standby"`
	Timeline    uint32          `json:"timeline"`
	FirstWAL    string          `json:"first_segment"`
	LastWAL     string          `json:"last_segment,omitempty"`
	Segments    int64           `json:"segments"`
	Missing     []string        `json:"missing_segments"`
	Tablespaces []restoredSpace `json:"tablespaces"`
	Archiving   bool            `json:"archiving_kept"`
	Size        int64           `json:"size"` // bytes
	Files       int64           `json:"files"`
	Seconds     float64         `json:"seconds"`
	Start       string          `json:"start"`
	Started     *started        `json:"started"` // null without --start
	Notes       []string        `json:"notes"`
}

type restoredSpace struct {
	OID  uint32 `json:"oid"`
	From string `json:"from"`
	To   string `json:"to"`
}

// printRestored prints the result; res is nil if nothing was done, run if the
// server was not started.
func (p *program) printRestored(x *cli.Context, plan *restore.Plan, res *restore.Result, took time.Duration, run *started) error {
	start := "pg_ctl start -D " + shellWord(plan.Dir)
	if install, err := pgrun.Find(x.Context, plan.Version, x.String("bin-dir")); err == nil { // often not in PATH
		start = startCommand(install, plan.Dir)
	}
	if x.Bool("json") {
		m := plan.Manifest
		v := restored{
			Restored: res != nil, Cluster: strconv.FormatUint(m.SystemID, 10), Backup: m.Backup, BackupEnd: m.End.UTC(), PostgreSQL: m.PostgreSQL,
			Directory: plan.Dir, Target: "latest", Value: plan.Target.Value(), Exclusive: plan.Target.Exclusive, Standby: plan.Standby,
			Timeline: uint32(plan.Timeline), FirstWAL: plan.First.String(), Segments: plan.Segments, Missing: []string{}, Tablespaces: []restoredSpace{},
			Archiving: plan.TakeOver, Size: m.Size, Files: m.Files, Seconds: took.Seconds(), Start: start, Started: run, Notes: append([]string{}, plan.Notes...),
		}
		if plan.Target.Kind != restore.Latest {
			v.Target = string(plan.Target.Kind)
		}
		if plan.Segments > 0 {
			v.LastWAL = plan.Last.String()
		}
		if res != nil && !plan.Standby {
			v.Action = string(res.Action)
		}
		for _, run := range plan.Missing {
			v.Missing = append(v.Missing, run.String())
		}
		for _, t := range plan.Tablespaces {
			v.Tablespaces = append(v.Tablespaces, restoredSpace(t))
		}
		e := json.NewEncoder(plainJSON{p.out})
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	if res == nil {
		p.print("nothing has been written (--dry-run)")
		return nil
	}
	if res.Resumed {
		p.print("restored  by an earlier run; this one has taken its marks away")
	} else {
		p.print("restored  in %s, %s/s; every file is checked and on stable storage", took.Round(100*time.Millisecond), bytesText(int64(float64(plan.Manifest.Size)/max(took.Seconds(), 0.001))))
	}
	p.print("then      %s", actionText(plan, res.Action))
	if plan.TakeOver {
		p.print("archive   archive_mode is as it was: the copy takes the cluster's place")
		if plan.Target.Kind != restore.Latest {
			p.print("          push refuses its new history file if it leaves the archived WAL far from its")
			p.print("          end; once that is right, run once: walship push --no-clone-guard PATH NAME")
		}
	} else {
		p.print("archive   archive_mode = off: the copy archives nothing (--take-over leaves it on)")
	}
	if !x.Bool("start") {
		p.print("start     %s", start)
	}
	return nil
}
