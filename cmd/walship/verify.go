package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/layout"
	"walship/transport"
	"walship/walname"
)

func (p *program) verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "read the archive back, and check all that was promised of it",
		Description: "Reads WAL, histories and base backups, and checks that each file decodes and is\n" +
			"what it was when it was stored, that it is of this cluster and what its name\n" +
			"says, that no segment is missing on the way of any recovery, and that every\n" +
			"file of every backup is there. Each fault is told with what it means. Nothing\n" +
			"is changed, and nothing is written to this machine's disk but --state.\n\n" +
			"Exits 0 when no fault was found. Otherwise:\n\n" +
			"   2 command line            3 configuration         7 archive not usable\n" +
			"   8 unreachable             9 login, host key      10 permission\n" +
			"  13 the state file         14 faults were found    15 ended by a signal\n" +
			"  16 anything else\n\n" +
			"Only 0 and 14 are verdicts.",
		Flags: append(common(), dataFlag(), clusterFlag(),
			&cli.StringFlag{Name: "since", Usage: "only what was stored since then, as 2026-11-22, \"2026-11-22 14:00\" or 30d, or WAL from a segment's name on"},
			&cli.StringFlag{Name: "sample", Usage: "read only this share of the files, chosen at random, as 1%; manifests and lists are always read"},
			&cli.StringFlag{Name: "seed", Usage: "of the choice of --sample; default: another each time, and printed"},
			&cli.StringFlag{Name: "jobs", Usage: "files read at once; default: the number of processors, and at least 4 over SFTP"},
			&cli.BoolFlag{Name: "wal-only", Usage: "no base backups"},
			&cli.BoolFlag{Name: "backups-only", Usage: "base backups, and whether their WAL is there"},
			&cli.StringFlag{Name: "state", Usage: "file in which to keep how far it has come: the same command line goes on there after it was broken off"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, see docs/verify.md"},
			&cli.BoolFlag{Name: "q", Aliases: []string{"quiet"}, Usage: "show no progress"}),
		Action: p.verify,
	}
}

// errFaults is an archive that is not as promised.
var errFaults = errors.New("the archive is not as promised")

// shownFaults bounds what is printed for people.
const shownFaults = 100

func (p *program) verify(x *cli.Context) error {
	if _, err := arguments(x); err != nil {
		return err
	}
	scope, err := verifyScope(x)
	if err != nil {
		return err
	}
	conf, err := p.loadOne(x)
	if err != nil {
		return err
	}
	jobs, err := verifyJobs(x, conf)
	if err != nil {
		return err
	}
	// No limit for the whole call: reading everything takes as long as it takes.
	s := &reopening{open: func() (store, error) { return open(x.Context, conf, silencePatient) }}
	defer s.Close()
	cluster, err := oneCluster(x.Context, x, s)
	if err != nil {
		return err
	}
	v := &archive.Verifier{Store: s, Cluster: cluster, Keys: keys(conf), HeaderCheck: conf.HeaderCheck, Jobs: jobs, Scope: scope}
	state, err := openVerifyState(x, conf, s, v)
	if err != nil {
		return err
	}
	if v.Resume != nil {
		p.say("verify: goes on where it was broken off: %s read before", files(v.Resume.Files))
	}
	var bar *progress
	if !x.Bool("q") {
		v.Begun = func(n int64) { bar = p.progress("verify", n) }
		v.Read = func(n int64) { bar.add(n) }
	}
	began := time.Now()
	verdict, err := v.Run(x.Context)
	if bar != nil {
		bar.stop()
	}
	if err != nil {
		if state != nil && state.saved {
			return transport.WithHint(err, "the same command line goes on where it was; "+state.path+" tells it where that is")
		}
		return err
	}
	if err := state.remove(); err != nil {
		return err
	}
	report := &verifyReport{program: p, paint: p.paint(), cluster: cluster, scope: v.Scope, verdict: verdict, took: time.Since(began)}
	if x.Bool("json") {
		err = report.json()
	} else {
		report.text()
	}
	if n := int64(len(verdict.Faults)) + verdict.More; n > 0 && err == nil {
		err = fmt.Errorf("%w: %s", errFaults, numbered(n, "fault"))
	}
	return err
}

func verifyScope(x *cli.Context) (s archive.Scope, err error) {
	s.WAL, s.Backups = !x.Bool("backups-only"), !x.Bool("wal-only")
	if !s.WAL && !s.Backups {
		return s, usage("--wal-only and --backups-only together leave nothing to verify")
	}
	if text := x.String("since"); x.IsSet("since") {
		if n, err := walname.Parse(text); err == nil && n.Kind != walname.KindHistory {
			s.From = n.Segment
		} else if s.Since, err = parseSince(text, time.Now(), time.Local); err != nil {
			return s, err
		}
	}
	if text := x.String("sample"); x.IsSet("sample") {
		if s.Sample, err = parseShare(text); err != nil {
			return s, err
		}
		s.Seed = uint64(rand.Uint32())
	}
	if x.IsSet("seed") {
		if !x.IsSet("sample") {
			return s, usage("--seed is of no use without --sample")
		}
		if s.Seed, err = strconv.ParseUint(x.String("seed"), 10, 64); err != nil {
			return s, usage("--seed %q is not a number", x.String("seed"))
		}
	}
	return s, nil
}

// parseShare reads "1%" or "0.01".
func parseShare(text string) (float64, error) {
	digits, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(digits, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share > 0 && share <= 1) {
		return 0, usage("--sample %q is not a share, as 1%% or 0.01", text)
	}
	return share, nil
}

// maxJobs bounds the memory that --jobs may take: some megabytes for each.
const maxJobs = 256

func verifyJobs(x *cli.Context, confs ...*config.Config) (int, error) {
	if !x.IsSet("jobs") {
		jobs := runtime.GOMAXPROCS(0)
		for _, conf := range confs {
			if strings.HasPrefix(conf.Archive, "sftp:") { // for the way there and back
				jobs = max(jobs, 4)
			}
		}
		return jobs, nil
	}
	n, err := strconv.Atoi(x.String("jobs"))
	if err != nil || n < 1 || n > maxJobs {
		return 0, usage("--jobs %q is not a number from 1 to %d", x.String("jobs"), maxJobs)
	}
	return n, nil
}

// verifyReport shows a verdict.
type verifyReport struct {
	*program
	paint
	cluster layout.Cluster
	scope   archive.Scope
	verdict *archive.Verdict
	took    time.Duration
}

// text writes for people.
func (r *verifyReport) text() {
	v := r.verdict
	for _, w := range v.Warnings {
		r.warn(w)
	}
	r.print("cluster %d", r.cluster.SystemID)
	what := files(v.Files) + ", " + bytesText(v.Bytes)
	if r.scope.Backups {
		what += ", " + numbered(int64(v.Backups), "base backup")
	}
	r.print("read %s in %s", what, r.took.Round(100*time.Millisecond))
	if r.scope.Sample > 0 {
		r.print("a sample of %g%%, seed %d: %s left out", r.scope.Sample*100, r.scope.Seed, files(v.Skipped))
	} else if v.Skipped > 0 {
		r.print("%s left out", files(v.Skipped))
	}
	r.print("")
	for i, f := range v.Faults {
		if i == shownFaults {
			break
		}
		r.print("%s  %s", r.red(fmt.Sprintf("%-9s", f.Kind)), oneLine(strings.TrimPrefix(f.File, r.cluster.Folder()+"/")))
		for _, line := range wrapped(oneLine(f.What), r.width-11) {
			r.print("           %s", line)
		}
		for _, line := range wrapped(r.signs("→ "+oneLine(f.Means)), r.width-11) {
			r.print("           %s", line)
		}
	}
	if n := int64(len(v.Faults)) + v.More; n > 0 {
		if n > shownFaults {
			r.print("and %d more; --json lists up to %d", n-shownFaults, len(v.Faults))
		}
		r.print("")
		r.print("%s", r.red(numbered(n, "fault")))
		return
	}
	r.print("%s", r.green("no fault found"))
}

// The schema of walship verify --json, which docs/verify.md describes. Fields are
// added, never renamed or removed.
type jsonVerdict struct {
	Version  int             `json:"format_version"`
	SystemID uint64          `json:"system_identifier,string"`
	Whole    bool            `json:"whole"`
	Files    int64           `json:"files"`
	Size     int64           `json:"stored_size"`
	Skipped  int64           `json:"left_out"`
	Backups  int             `json:"backups"`
	Seconds  float64         `json:"seconds"`
	Sample   *jsonSample     `json:"sample"`
	Faults   []archive.Fault `json:"faults"`
	More     int64           `json:"more_faults"`
	Warnings []string        `json:"warnings"`
}

type jsonSample struct {
	Share float64 `json:"share"`
	Seed  uint64  `json:"seed"`
}

func (r *verifyReport) json() error {
	v := r.verdict
	j := jsonVerdict{Version: 1, SystemID: r.cluster.SystemID, Whole: len(v.Faults) == 0, Files: v.Files, Size: v.Bytes, Skipped: v.Skipped, Backups: v.Backups,
		Seconds: r.took.Seconds(), Faults: append([]archive.Fault{}, v.Faults...), More: v.More, Warnings: append([]string{}, v.Warnings...)}
	if r.scope.Sample > 0 {
		j.Sample = &jsonSample{r.scope.Sample, r.scope.Seed}
	}
	e := json.NewEncoder(plainJSON{r.out})
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(j)
}
