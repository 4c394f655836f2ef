package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
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

func (p *program) pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "remove old base backups, and WAL that no backup needs any more",
		Description: "Say what to keep; what is to go is shown, and removed once you agree:\n\n" +
			"   walship prune --keep-backups 4\n" +
			"   walship prune --older-than 30d --keep-backups 2 --yes\n" +
			"   archive_cleanup_command = 'walship prune --keep-from %r --yes'\n\n" +
			"A backup expires only if all options that speak of backups give it up. WAL goes\n" +
			"only before the oldest backup that is kept, and before --keep-from; never by\n" +
			"age. Histories always stay. The order is such that whatever interrupts it, all\n" +
			"that has a manifest can be restored. See docs/prune.md before you use %r.\n\n" +
			"Exits 0 when what was to go is gone, or nothing was. Otherwise:\n\n" +
			"   2 command line            3 configuration         4 the plan is not clear\n" +
			"   7 archive not usable      8 unreachable           9 login, host key\n" +
			"  10 permission             12 not durable enough   14 a stored file is damaged\n" +
			"  15 ended by a signal      16 anything else",
		Flags: append(common(), dataFlag(), clusterFlag(),
			&cli.StringFlag{Name: "keep-backups", Usage: "keep this many of the newest base backups"},
			&cli.StringFlag{Name: "older-than", Usage: "give up base backups that were stored longer ago, by the archive's clock, as 30d; the newest always stays"},
			&cli.StringFlag{Name: "keep-from", Usage: "keep WAL from this segment, .backup file or position on, as 0/5A000000; with a .backup file, also give up older backups that are known only by their label"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would go, and remove nothing"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, see docs/prune.md"}),
		Action: p.prune,
	}
}

// errDeclined is an answer other than yes.
var errDeclined = errors.New("nothing was removed")

func (p *program) prune(x *cli.Context) error {
	if _, err := arguments(x); err != nil {
		return err
	}
	rules, err := pruneRules(x)
	if err != nil {
		return err
	}
	asks := !x.Bool("yes") && !x.Bool("dry-run")
	if asks && (x.Bool("json") || !isTerminal(os.Stdin) || !isTerminal(p.err)) {
		return transport.WithHint(usage("there is no terminal to ask on"), "--yes removes without asking, --dry-run shows what would go")
	}
	conf, err := p.loadOne(x)
	if err != nil {
		return err
	}
	// No limit for the whole call: a million files take their time.
	s, err := open(x.Context, conf, silencePatient)
	if err != nil {
		return err
	}
	defer s.Close()
	cluster, err := oneCluster(x.Context, x, s)
	if err != nil {
		return err
	}
	pruner := &archive.Pruner{Store: s, Cluster: cluster, Say: p.warn}
	plan, err := pruner.Plan(x.Context, rules)
	if err != nil {
		return err
	}
	out := &prunePrinter{program: p, paint: p.paint(), cluster: cluster, plan: plan}
	if !x.Bool("json") {
		out.show()
	}
	if x.Bool("dry-run") || plan.Empty() {
		if x.Bool("json") {
			return out.json(x.Bool("dry-run"), nil)
		}
		if !plan.Empty() {
			p.print("")
			p.print("nothing was removed (--dry-run)")
		}
		return nil
	}
	if !x.Bool("json") {
		p.print("")
	}
	if asks {
		if err := p.ask(x.Context, "remove "+out.sum()+"?"); err != nil {
			return err
		}
	}
	bar := p.progress("prune", out.bytes())
	pruner.Progress = bar.add
	freed, err := pruner.Run(x.Context, plan)
	bar.stop()
	if x.Bool("json") {
		return errors.Join(err, out.json(false, &freed))
	}
	if freed != (archive.Freed{}) || err == nil {
		p.print("%s", out.freed(freed))
	}
	return err
}

func pruneRules(x *cli.Context) (r archive.Rules, err error) {
	if text := x.String("keep-backups"); x.IsSet("keep-backups") {
		if r.KeepBackups, err = strconv.Atoi(text); err != nil || r.KeepBackups < 1 {
			return r, usage("--keep-backups %q is not a number from 1 on", text)
		}
	}
	if text := x.String("older-than"); x.IsSet("older-than") {
		if r.OlderThan, err = config.ParseDuration(text); err != nil {
			return r, usage("--older-than %s: %v", text, err)
		}
		if r.OlderThan == 0 {
			return r, usage("--older-than %s: it must be above 0", text)
		}
	}
	if x.IsSet("keep-from") {
		if r.KeepFrom, err = archive.ParseKeepFrom(x.String("keep-from")); err != nil {
			return r, usage("--keep-from: %v", err)
		}
	}
	if r == (archive.Rules{}) {
		return r, usage("what to keep is missing: --keep-backups N, --older-than 30d or --keep-from NAME")
	}
	return r, nil
}

// oneCluster is the one that is meant; that there are several is an error.
func oneCluster(ctx context.Context, x *cli.Context, s archive.Reader) (layout.Cluster, error) {
	c, err := chooseClusters(ctx, x, s)
	if err != nil {
		return layout.Cluster{}, err
	}
	if len(c.list) != 1 {
		return layout.Cluster{}, transport.WithHint(usage("which cluster is meant is not clear"), heldClusters(c.root))
	}
	return c.list[0], nil
}

// ask waits for a yes on the terminal.
func (p *program) ask(ctx context.Context, question string) error {
	fmt.Fprintf(p.err, "walship: %s [y/N] ", oneLine(question))
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n') // without an answer it is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case text := <-answer:
		if text == "y" || text == "yes" {
			return nil
		}
		return errDeclined
	case <-ctx.Done():
		fmt.Fprintln(p.err)
		return context.Cause(ctx)
	}
}

// prunePrinter shows a plan and what became of it.
type prunePrinter struct {
	*program
	paint
	cluster layout.Cluster
	plan    *archive.Plan
}

// show writes the plan for people.
func (o *prunePrinter) show() {
	plan := o.plan
	o.print("cluster %d", o.cluster.SystemID)
	o.print("")
	for _, h := range plan.Held {
		word := o.green("stays")
		if !h.Keep {
			word = o.yellow("goes ")
		}
		size := "label"
		if h.Stored {
			size = bytesText(h.Size)
		}
		o.print("  %s  %-41s  %9s  %s", word, oneLine(h.Name), size, o.time(h.Time)[:min(16, len(o.time(h.Time)))])
		switch {
		case h.Unfinished:
			o.print("         %s", o.faint("in progress, or its WAL is not all archived yet"))
		case h.Why != "":
			o.print("         %s", o.faint(h.Why))
		}
	}
	if len(plan.Held) == 0 {
		o.print("  no base backup")
	}
	o.print("")
	switch {
	case !plan.HasCut:
		o.print("all WAL stays")
	case plan.Files == 0:
		o.print("all WAL stays: nothing lies before %s (%s)", plan.Cut, plan.CutLSN)
	default:
		o.print("WAL before %s (%s) goes: %s, %s", plan.Cut, plan.CutLSN, files(plan.Files), bytesText(plan.Bytes))
	}
	if plan.HasCut {
		for _, line := range wrapped(plan.CutWhy, o.width-2) {
			o.print("  %s", o.faint(oneLine(line)))
		}
	}
	for _, a := range plan.Abandoned {
		o.print("what a backup that died has left goes: %s, %s", a.Name, bytesText(a.Size))
	}
	if plan.Temporary > 0 {
		o.print("temporary files older than a day go: %d", plan.Temporary)
	}
	if plan.Empty() {
		o.print("there is nothing to remove")
	}
}

// bytes is what the plan would free.
func (o *prunePrinter) bytes() int64 {
	n := o.plan.Bytes
	for _, h := range o.plan.Expired() {
		n += h.Size
	}
	for _, a := range o.plan.Abandoned {
		n += a.Size
	}
	return n
}

// sum says in a few words what the plan would remove.
func (o *prunePrinter) sum() string {
	var parts []string
	if n := len(o.plan.Expired()); n > 0 {
		parts = append(parts, numbered(int64(n), "base backup"))
	}
	if o.plan.Files > 0 {
		parts = append(parts, files(o.plan.Files)+" of WAL")
	}
	if n := len(o.plan.Abandoned); n > 0 {
		parts = append(parts, numbered(int64(n), "unfinished backup"))
	}
	if o.plan.Temporary > 0 {
		parts = append(parts, numbered(o.plan.Temporary, "temporary file"))
	}
	return strings.Join(parts, ", ") + ", " + bytesText(o.bytes())
}

func (o *prunePrinter) freed(f archive.Freed) string {
	text := fmt.Sprintf("freed %s: %s, %s of WAL", bytesText(f.Bytes), numbered(int64(f.Backups), "base backup"), files(f.WAL))
	if f.Abandoned > 0 {
		text += ", " + numbered(int64(f.Abandoned), "unfinished backup")
	}
	if f.Temporary > 0 {
		text += ", " + numbered(int64(f.Temporary), "temporary file")
	}
	return text
}

func numbered(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// The schema of walship prune --json, which docs/prune.md describes. Fields are
// added, never renamed or removed.
type jsonPrune struct {
	Version   int               `json:"format_version"`
	SystemID  uint64            `json:"system_identifier,string"`
	DryRun    bool              `json:"dry_run"`
	Cut       *jsonCut          `json:"keeps_wal_from"` // null: all WAL stays
	Backups   []jsonHeld        `json:"backups"`
	WAL       jsonPruned        `json:"wal"`
	Abandoned []jsonAbandonment `json:"unfinished"`
	Temporary int64             `json:"temporary_files"`
	Freed     *jsonFreed        `json:"freed"` // null: nothing was to be removed
}

type jsonCut struct {
	Segment string      `json:"segment"`
	LSN     walname.LSN `json:"lsn"`
	Why     string      `json:"why"`
}

type jsonHeld struct {
	Name       string           `json:"name"`
	Stored     bool             `json:"stored"`
	Timeline   walname.Timeline `json:"timeline"`
	Start      walname.LSN      `json:"start_lsn"`
	End        *walname.LSN     `json:"end_lsn"`
	At         time.Time        `json:"stored_at"`
	Size       int64            `json:"stored_size"`
	Keep       bool             `json:"stays"`
	Why        string           `json:"why,omitempty"`
	Unfinished bool             `json:"unfinished"`
}

type jsonPruned struct {
	Files int64 `json:"files"`
	Size  int64 `json:"stored_size"`
}

type jsonAbandonment struct {
	Name string `json:"name"`
	Size int64  `json:"stored_size"`
}

type jsonFreed struct {
	Backups    int   `json:"backups"`
	WALFiles   int64 `json:"wal_files"`
	Unfinished int   `json:"unfinished"`
	Temporary  int   `json:"temporary_files"`
	Files      int64 `json:"files"`
	Size       int64 `json:"stored_size"`
}

func (o *prunePrinter) json(dry bool, freed *archive.Freed) error {
	plan := o.plan
	j := jsonPrune{Version: 1, SystemID: o.cluster.SystemID, DryRun: dry, Backups: []jsonHeld{}, Abandoned: []jsonAbandonment{},
		WAL: jsonPruned{plan.Files, plan.Bytes}, Temporary: plan.Temporary}
	if plan.HasCut {
		j.Cut = &jsonCut{plan.Cut.String(), plan.CutLSN, plan.CutWhy}
	}
	for _, h := range plan.Held {
		b := jsonHeld{Name: h.Name, Stored: h.Stored, Timeline: h.Timeline, Start: h.Start, At: h.Time.UTC(), Size: h.Size,
			Keep: h.Keep, Why: h.Why, Unfinished: h.Unfinished}
		if h.End != 0 {
			b.End = &h.End
		}
		j.Backups = append(j.Backups, b)
	}
	for _, a := range plan.Abandoned {
		j.Abandoned = append(j.Abandoned, jsonAbandonment{a.Name, a.Size})
	}
	if freed != nil {
		j.Freed = &jsonFreed{freed.Backups, freed.WAL, freed.Abandoned, freed.Temporary, freed.Files, freed.Bytes}
	}
	e := json.NewEncoder(plainJSON{o.out})
	e.SetIndent("", "  ")
	return e.Encode(j)
}
