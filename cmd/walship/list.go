package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walship/archive"
	"walship/internal/config"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/transport"
	"walship/walname"
)

func (p *program) listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "show what the archive holds, and what can be restored from it",
		Description: "Timelines, gaps, base backups and the range that can be restored, as the\n" +
			"archive's folders tell it; \"walship verify\" reads the files themselves.\n" +
			"The cluster is that of the data directory, or the archive's only one;\n" +
			"with several in it, all are shown in brief.",
		Flags: append(common(), dataFlag(), clusterFlag(),
			&cli.StringFlag{Name: "timeline", Usage: "this timeline only, by its number"},
			&cli.StringFlag{Name: "since", Usage: "count and list only what was stored since then: 30d, 12h, 2026-11-22, \"2026-11-22 14:00\""},
			&cli.StringFlag{Name: "wal-per", Usage: "draw how much WAL came in each hour or day"},
			&cli.BoolFlag{Name: "long", Usage: "list the files of WAL too"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, see docs/list.md"}),
		Action: p.list,
	}
}

func clusterFlag() cli.Flag {
	return &cli.StringFlag{Name: "cluster", Usage: "system identifier of the cluster that is meant"}
}

// listOptions are what the command line asks for.
type listOptions struct {
	timeline walname.Timeline // 0: all
	since    time.Time
	per      string // "", "hour" or "day"
	long     bool
}

func (p *program) list(x *cli.Context) error {
	if _, err := arguments(x); err != nil {
		return err
	}
	o, err := readListOptions(x)
	if err != nil {
		return err
	}
	s, done, err := p.reader(x)
	if err != nil {
		return err
	}
	defer done()
	choice, err := chooseClusters(x.Context, x, s)
	if err != nil {
		return err
	}
	l := &lister{program: p, store: s, listOptions: o, paint: p.paint()}
	if x.Bool("json") {
		return l.json(x.Context, choice, maskedArchive(x))
	}
	return l.text(x.Context, choice)
}

func readListOptions(x *cli.Context) (o listOptions, err error) {
	o.long = x.Bool("long")
	if text := x.String("timeline"); x.IsSet("timeline") {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == 0 {
			return o, usage("--timeline %q is not the number of a timeline", text)
		}
		o.timeline = walname.Timeline(n)
	}
	if x.IsSet("since") {
		if o.since, err = parseSince(x.String("since"), time.Now(), time.Local); err != nil {
			return o, err
		}
	}
	if x.IsSet("wal-per") {
		if o.per = x.String("wal-per"); o.per != "hour" && o.per != "day" {
			return o, usage("--wal-per %q: want hour or day", o.per)
		}
	}
	return o, nil
}

// parseSince reads a time, or how long ago it was.
func parseSince(text string, now time.Time, zone *time.Location) (time.Time, error) {
	if d, err := config.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, form := range []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if t, err := time.ParseInLocation(form, text, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage("--since %q is neither a time, as 2026-11-22 or \"2026-11-22 14:00\", nor a length of time, as 30d or 12h", text)
}

// reader opens the archive to look at it; done closes it.
func (p *program) reader(x *cli.Context) (s store, done func(), err error) {
	conf, err := p.loadOne(x)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := p.limited(x.Context, conf)
	if s, err = open(ctx, conf, silencePatient); err != nil {
		cancel()
		return nil, nil, err
	}
	x.Context = ctx
	return s, func() { cancel(); _ = s.Close() }, nil
}

// maskedArchive is the archive's URL as it may be shown.
func maskedArchive(x *cli.Context) string {
	conf, err := load(x)
	if err != nil {
		return ""
	}
	return config.MaskURL(conf.Archive)
}

// choice is which of an archive's clusters a command is about.
type choice struct {
	root archive.Root
	list []layout.Cluster
	all  bool // nobody chose, and there are several
}

// chooseClusters finds the cluster that is meant: --cluster, else that of the
// data directory (-D, the working directory, PGDATA), else the only one; else
// all of them.
func chooseClusters(ctx context.Context, x *cli.Context, s archive.Reader) (choice, error) {
	named, err := namedCluster(x)
	if err != nil {
		return choice{}, err
	}
	root, err := archive.LookAtRoot(ctx, s)
	if errors.Is(err, fs.ErrNotExist) {
		err = transport.WithHint(fmt.Errorf("%w: its folder does not exist: %v", archive.ErrArchive, err), "is the disk mounted, and is the archive's URL right?")
	}
	if err != nil {
		return choice{}, err
	}
	c := choice{root: root, list: root.Clusters}
	switch {
	case named != nil:
		c.list = []layout.Cluster{*named}
		for _, there := range root.Clusters {
			if there == *named {
				return c, nil
			}
		}
		return c, transport.WithHint(fmt.Errorf("%w: it holds nothing of cluster %d", archive.ErrArchive, named.SystemID), heldClusters(root))
	case len(c.list) == 0 && root.Flat.Count == 0:
		return c, transport.WithHint(fmt.Errorf("%w: it holds no cluster", archive.ErrArchive),
			"is the disk mounted, and is the archive's URL right? a new archive is made by walship init, in the data directory")
	}
	c.all = len(c.list) != 1
	return c, nil
}

// heldClusters is what an archive holds instead of the cluster that is meant.
func heldClusters(r archive.Root) string {
	if len(r.Clusters) == 0 {
		return "a new archive is made by walship init, in the data directory"
	}
	var names []string
	for _, c := range r.Clusters {
		names = append(names, c.Folder())
	}
	return "it holds " + strings.Join(names, ", ") + "; choose one with --cluster"
}

// namedCluster is the cluster that the command line or the surroundings name;
// nil if they name none.
func namedCluster(x *cli.Context) (*layout.Cluster, error) {
	if x.IsSet("cluster") {
		c, ok := layout.ParseFolder(x.String("cluster"))
		if !ok {
			return nil, usage("--cluster %q is not a system identifier", x.String("cluster"))
		}
		return &c, nil
	}
	data, err := dataDir(x.String("D"), "")
	if err != nil || data == nil {
		return nil, err
	}
	return &layout.Cluster{SystemID: data.Control.SystemID}, nil
}

// lister shows what an archive holds.
type lister struct {
	*program
	paint
	listOptions
	store archive.Reader
}

// take looks at one cluster. told, if not nil, is told of the files that were
// asked for.
func (l *lister) take(ctx context.Context, c layout.Cluster, told func(archive.StoredFile) error) (*archive.Inventory, *walChart, error) {
	chart := &walChart{per: l.per, zone: l.zone, slots: make(map[time.Time]walSlot)}
	inv, err := archive.Take(ctx, l.store, c, archive.Look{Since: l.since, Each: func(f archive.StoredFile) error {
		if l.timeline != 0 && f.Name.Timeline() != l.timeline {
			return nil
		}
		if l.per != "" {
			chart.add(f)
		}
		if told != nil {
			return told(f)
		}
		return nil
	}})
	if err != nil {
		return nil, nil, err
	}
	chart.segment = inv.Identity.SegmentSize
	if l.timeline != 0 && inv.Timeline(l.timeline) == nil {
		return nil, nil, fmt.Errorf("%w: it holds nothing of timeline %d of cluster %d", archive.ErrArchive, l.timeline, c.SystemID)
	}
	return inv, chart, nil
}

// text writes for people.
func (l *lister) text(ctx context.Context, choice choice) error {
	if choice.root.Flat.Count > 0 {
		l.flat(choice.root)
	}
	if choice.all && !l.long && l.per == "" && l.timeline == 0 {
		return l.brief(ctx, choice.list)
	}
	for i, c := range choice.list {
		if i > 0 {
			l.print("")
		}
		var told func(archive.StoredFile) error
		if l.long {
			told = l.file
		}
		inv, chart, err := l.take(ctx, c, told)
		if err != nil {
			return err
		}
		if l.long {
			l.print("")
		}
		d := drawing{paint: l.paint, inv: inv, only: l.timeline}
		for _, line := range d.all() {
			l.print("%s", line)
		}
		if l.per != "" {
			for _, line := range chart.draw(l.paint) {
				l.print("%s", line)
			}
		}
	}
	return nil
}

// file writes one line of --long.
func (l *lister) file(f archive.StoredFile) error {
	text := fmt.Sprintf("%-45s  %9s  %s", oneLine(path.Base(f.Stored)), bytesText(f.Size), l.time(f.ModTime))
	if f.Broken != "" {
		text = l.red(text)
	}
	_, err := fmt.Fprintln(l.out, text)
	return err
}

// flat tells of WAL that another tool has left in the archive's topmost folder.
func (l *lister) flat(r archive.Root) {
	l.print("%s", l.signs(fmt.Sprintf("of another tool: %s of WAL, %s, in the archive's topmost folder", files(r.Flat.Count), bytesText(r.Flat.Size))))
	if r.FlatFirst != (walname.Segment{}) {
		l.print("%s", l.signs(fmt.Sprintf("  %s … %s", r.FlatFirst, r.FlatLast)))
	}
	l.print("")
}

// brief writes a line or two for each cluster.
func (l *lister) brief(ctx context.Context, list []layout.Cluster) error {
	var failed error
	for _, c := range list {
		inv, _, err := l.take(ctx, c, nil)
		if errors.Is(err, archive.ErrArchive) {
			l.print("cluster %d", c.SystemID)
			l.print("  %s", l.red(oneLine(err.Error())))
			failed = err
			continue
		}
		if err != nil {
			return err
		}
		d := drawing{paint: l.paint, inv: inv}
		for _, line := range d.brief() {
			l.print("%s", line)
		}
	}
	if len(list) > 0 {
		l.print("")
		l.print("walship list --cluster NUMBER shows one of them")
	}
	return failed
}

// dataOf is the data directory that the command is about, nil if there is none.
func dataOf(x *cli.Context) (*pgdata.Dir, error) { return dataDir(x.String("D"), "") }
