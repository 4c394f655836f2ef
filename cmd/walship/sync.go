package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/layout"
	"walship/transport"
)

func (p *program) syncCommand() *cli.Command {
	return &cli.Command{
		Name:      "sync",
		Usage:     "copy what one archive has and another has not",
		ArgsUsage: "[FROM TO]",
		Description: "Copies WAL, histories, what was set aside and base backups, byte for byte, and\n" +
			"checks each file on the way: what is damaged is reported and not copied. Nothing\n" +
			"is ever replaced or removed; a file that is there with other content is\n" +
			"reported, and what follows it is held back. Run again, it goes on where it has\n" +
			"ended, whatever has ended it.\n\n" +
			"   walship sync sftp://wal@old/srv/wal sftp://wal@new/srv/wal\n" +
			"   walship sync\n\n" +
			"FROM and TO are URLs of archives. TO is made if it is not there. Without them it\n" +
			"copies from the first of the archives that the configuration lists to each of\n" +
			"the others, which walship init has made.\n\n" +
			"Exits 0 when TO has all that FROM has. Otherwise:\n\n" +
			"   2 command line            3 configuration         4 a file is not encrypted\n" +
			"   5 other content is there  7 archive not usable    8 unreachable\n" +
			"   9 login, host key        10 permission           11 disk full\n" +
			"  12 not durable enough     14 a file is damaged    15 ended by a signal\n" +
			"  16 anything else",
		Flags: append(common(), dataFlag(), clusterFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "tell what would be copied, and copy nothing"},
			&cli.BoolFlag{Name: "cleartext", Usage: "copy into an encrypted archive also what FROM holds unencrypted"},
			&cli.StringFlag{Name: "jobs", Usage: "files copied at once; default: the number of processors, and at least 4 over SFTP"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, see docs/several-archives.md"},
			&cli.BoolFlag{Name: "q", Aliases: []string{"quiet"}, Usage: "show no progress"}),
		Action: p.sync,
	}
}

// syncing is one copying, from one archive to another.
type syncing struct {
	from, to *config.Config
	make     bool // TO if it is not there
}

// syncsOf are those that the command line asks for.
func syncsOf(x *cli.Context, conf *config.Config) (all []syncing, err error) {
	args := x.Args().Slice()
	if len(args) == 1 || len(args) > 2 {
		return nil, usage("%d arguments instead of 2: walship sync FROM TO, or walship sync alone for all archives that the configuration lists", len(args))
	}
	if len(args) == 0 {
		each := conf.Each()
		if len(each) < 2 {
			return nil, usage("there are no two archives: walship sync FROM TO, or a line archives = [\"URL\", \"URL\"] in the configuration")
		}
		for _, to := range each[1:] {
			all = append(all, syncing{from: each[0], to: to})
		}
		return all, nil
	}
	one := syncing{make: true}
	for i, into := range []**config.Config{&one.from, &one.to} {
		if err := checkArchive(args[i]); err != nil {
			what := fmt.Errorf("%w: %s is not the URL of an archive: %w", errUsage, config.MaskURL(args[i]), err)
			if config.MaskURL(args[i]) != args[i] { // which the error might repeat
				what = fmt.Errorf("%w: %s is not the URL of an archive", errUsage, config.MaskURL(args[i]))
			}
			return nil, what
		}
		*into = conf.Only(args[i])
	}
	if strings.TrimRight(args[0], "/") == strings.TrimRight(args[1], "/") {
		return nil, usage("FROM and TO are the same archive")
	}
	return []syncing{one}, nil
}

func (p *program) sync(x *cli.Context) error {
	conf, err := load(x)
	if err != nil {
		return err
	}
	all, err := syncsOf(x, conf)
	if err != nil {
		return err
	}
	reports := []*jsonSync{}
	var first error
	for _, s := range all {
		report, err := p.syncOne(x, s)
		if report != nil {
			reports = append(reports, report)
		}
		switch {
		case err != nil && first == nil:
			first = err
		case err != nil:
			p.say("sync: %v", err)
			p.hint(advice(err))
		}
	}
	if x.Bool("json") {
		e := json.NewEncoder(plainJSON{p.out})
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(jsonSyncs{Version: 1, Syncs: reports}); err != nil {
			return err
		}
	}
	return first
}

// syncOne copies from one archive to another. There is a report unless it could
// not begin.
func (p *program) syncOne(x *cli.Context, s syncing) (*jsonSync, error) {
	jobs, err := verifyJobs(x, s.from, s.to)
	if err != nil {
		return nil, err
	}
	// No limit for the whole call: copying everything takes as long as it takes.
	from, err := openLasting(x.Context, s.from)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to, err := openLasting(x.Context, s.to)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	copying := &archive.Syncer{From: from, To: to, FromName: config.MaskURL(s.from.Archive), ToName: config.MaskURL(s.to.Archive),
		HeaderCheck: s.from.HeaderCheck, Jobs: jobs, DryRun: x.Bool("dry-run"), Make: s.make, Cleartext: x.Bool("cleartext")}
	if copying.Cluster, err = oneCluster(x.Context, x, from); err != nil {
		return nil, fmt.Errorf("%s: %w", copying.FromName, err)
	}
	var bar *progress
	if !x.Bool("q") && !copying.DryRun {
		copying.Begun = func(n int64) { bar = p.progress("sync", n) }
		copying.Read = func(n int64) { bar.add(n) }
	}
	began := time.Now()
	done, err := copying.Run(x.Context)
	if bar != nil {
		bar.stop()
	}
	report := newJSONSync(copying, done, time.Since(began), err == nil)
	if !x.Bool("json") {
		p.printSync(report, copying.Cluster)
	}
	switch {
	case err != nil && transport.Hint(err) == "":
		return report, transport.WithHint(err, "run it again: it goes on where it has ended")
	case err != nil:
		return report, err
	}
	return report, syncFaults(done)
}

// syncFaults is the error that stands for the faults. Two contents of one file
// weigh more than a damaged one.
func syncFaults(done *archive.Synced) error {
	n := int64(len(done.Faults)) + done.More
	if n == 0 {
		return nil
	}
	switch {
	case done.Kinds[archive.Conflict] > 0:
		return fmt.Errorf("%w: %s", archive.ErrConflict, numbered(n, "file")+" not copied or not as it should be")
	case done.Kinds[archive.Cleartext] == n:
		return fmt.Errorf("%w: %s not encrypted, in an archive that is", archive.ErrRefused, numbered(n, "file"))
	}
	return transport.WithHint(fmt.Errorf("%w: %s", errFaults, numbered(n, "fault")), "what to do about each stands beside it")
}

// The schema of walship sync --json, which docs/several-archives.md describes.
// Fields are added, never renamed or removed.
type jsonSyncs struct {
	Version int         `json:"format_version"`
	Syncs   []*jsonSync `json:"syncs"`
}

type jsonSync struct {
	From     string              `json:"from"`
	To       string              `json:"to"`
	SystemID uint64              `json:"system_identifier,string"`
	DryRun   bool                `json:"dry_run"`
	Whole    bool                `json:"whole"` // TO has all that FROM has
	Made     bool                `json:"made"`
	Files    int64               `json:"files"`
	Size     int64               `json:"stored_size"`
	Backups  int                 `json:"backups"`
	There    int64               `json:"already_there"`
	Gone     int64               `json:"gone"`
	Held     int64               `json:"held_back"` // behind a conflict, or a history that was not copied
	Seconds  float64             `json:"seconds"`
	Faults   []archive.SyncFault `json:"faults"`
	More     int64               `json:"more_faults"`
	ended    bool                // it has come to its end
}

func newJSONSync(s *archive.Syncer, d *archive.Synced, took time.Duration, ended bool) *jsonSync {
	return &jsonSync{From: s.FromName, To: s.ToName, SystemID: s.Cluster.SystemID, DryRun: s.DryRun, Made: d.Made, Files: d.Files, Size: d.Bytes,
		Whole: ended && len(d.Faults) == 0 && d.Held == 0 && (!s.DryRun || d.Files == 0), Backups: d.Backups, There: d.There, Gone: d.Gone, Held: d.Held,
		Seconds: took.Seconds(), Faults: append([]archive.SyncFault{}, d.Faults...), More: d.More, ended: ended}
}

// printSync writes for people.
func (p *program) printSync(j *jsonSync, cluster layout.Cluster) {
	paint := p.paint()
	p.print("cluster %d", cluster.SystemID)
	p.print("from %s", j.From)
	p.print("to   %s", j.To)
	did := "copied"
	switch {
	case j.DryRun && j.Made:
		p.print("the archive would be made there")
	case j.Made:
		p.print("the archive was made there")
	}
	if j.DryRun {
		did = "would copy"
	}
	what := files(j.Files) + ", " + bytesText(j.Size)
	if j.Backups > 0 {
		what += ", with them " + numbered(int64(j.Backups), "base backup")
	}
	if !j.DryRun {
		what += fmt.Sprintf(", in %s", (time.Duration(j.Seconds * float64(time.Second))).Round(100*time.Millisecond))
	}
	p.print("%s %s", did, what)
	if j.There > 0 {
		p.print("there already: %s of WAL", files(j.There))
	}
	if j.Gone > 0 {
		p.print("removed meanwhile, as by walship prune: %s", files(j.Gone))
	}
	if j.Held > 0 {
		p.print("held back, for what comes before it was not copied: %s", files(j.Held))
	}
	for i, f := range j.Faults {
		if i == shownFaults {
			p.print("and %d more; --json lists up to %d", int64(len(j.Faults)-i)+j.More, len(j.Faults))
			break
		}
		if i == 0 {
			p.print("")
		}
		p.print("%s  %s", paint.red(fmt.Sprintf("%-9s", f.Kind)), oneLine(strings.TrimPrefix(f.File, cluster.Folder()+"/")))
		for _, text := range []string{"in " + f.Archive + ": " + f.What, paint.signs("→ " + f.Means)} {
			for _, line := range wrapped(oneLine(text), paint.width-11) {
				p.print("           %s", line)
			}
		}
	}
	if j.ended && len(j.Faults) == 0 && !j.DryRun {
		p.print("%s", paint.green("there is all that is in "+j.From))
	}
}
