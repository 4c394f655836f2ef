package main

import (
	"fmt"
	"path"
	"sort"
	"strings"

	"walship/archive"
	"walship/walname"
)

// drawing draws an inventory, in lines of 80 columns.
type drawing struct {
	paint
	inv   *archive.Inventory
	only  walname.Timeline // 0: all
	lines []string
}

// most is how many lines of one kind are drawn.
const most = 5

func (d *drawing) add(format string, args ...any) {
	d.lines = append(d.lines, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// all draws everything.
func (d *drawing) all() []string {
	id := d.inv.Identity
	version := ""
	if d.inv.Version != "" {
		version = ", PostgreSQL " + d.inv.Version
	}
	d.add("%s%s, segments of %d MB, stored as %s%s", d.bold(fmt.Sprintf("cluster %d", id.SystemID)), version, id.SegmentSize>>20, id.Codec, sealedText(id.RecipientList()))
	d.add("%s", d.faint("times are in "+d.timeZone(id.Created)))
	d.add("")
	if d.only != 0 {
		d.timeline(d.inv.Timeline(d.only), "", false)
	} else {
		d.tree()
	}
	if len(d.inv.Timelines) > 0 {
		d.add("")
	}
	d.rest()
	d.restorable()
	return d.lines
}

// tree draws the timelines: the way to the newest one as a straight line, what
// was left beside it.
func (d *drawing) tree() {
	children := make(map[walname.Timeline][]*archive.Timeline)
	var roots []*archive.Timeline
	for _, tl := range d.inv.Timelines {
		parent := parentOf(tl)
		if parent == 0 || d.inv.Timeline(parent) == nil {
			roots = append(roots, tl)
		} else {
			children[parent] = append(children[parent], tl)
		}
	}
	for i, root := range roots {
		if i > 0 {
			d.add("")
		}
		d.branch(root, "", children)
	}
}

func parentOf(tl *archive.Timeline) walname.Timeline {
	if tl.History == nil {
		return 0
	}
	return tl.History.Parent().Timeline
}

// branch draws a timeline and those that come from it. Its own line goes on to
// the child that leads to the highest number.
func (d *drawing) branch(tl *archive.Timeline, indent string, children map[walname.Timeline][]*archive.Timeline) {
	for {
		own := children[tl.ID]
		d.timeline(tl, indent, len(own) > 0)
		if len(own) == 0 {
			return
		}
		sort.Slice(own, func(i, j int) bool { return highest(own[i], children) < highest(own[j], children) })
		for _, side := range own[:len(own)-1] {
			d.add("%s", d.signs(indent+"│"))
			d.branch(side, indent+"├─", children)
		}
		indent = rail(indent)
		d.add("%s", d.signs(indent+"│"))
		tl = own[len(own)-1]
	}
}

// highest is the highest timeline that comes from tl.
func highest(tl *archive.Timeline, children map[walname.Timeline][]*archive.Timeline) walname.Timeline {
	top := tl.ID
	for _, c := range children[tl.ID] {
		top = max(top, highest(c, children))
	}
	return top
}

// rail is the indentation of the lines below one that begins a branch.
func rail(indent string) string { return strings.ReplaceAll(indent, "├─", "│ ") }

// timeline draws one timeline.
func (d *drawing) timeline(tl *archive.Timeline, indent string, goesOn bool) {
	title := d.bold(fmt.Sprintf("timeline %d", tl.ID))
	switch {
	case tl.History != nil:
		title += left(tl.History.Parent())
	case tl.ID > 1:
		title += d.red(", whose history file is missing or damaged")
	}
	d.add("%s%s", d.signs(indent+"● "), d.signs(title))
	indent = rail(indent)
	if goesOn {
		indent += "│ "
	} else {
		indent += "  "
	}
	item := func(name, text string) { d.add("%s%-9s %s", d.signs(indent), name, d.signs(text)) }
	if n := len(tl.Runs); n > 0 {
		first, last := tl.Runs[0].First, tl.Runs[n-1].Last
		item("segments", fmt.Sprintf("%s … %s", first, last))
		item("LSN", fmt.Sprintf("%s … %s", d.inv.Geometry.Start(first), d.inv.Geometry.End(last)))
		raw := tl.Count * d.inv.Identity.SegmentSize
		item("count", fmt.Sprintf("%d, %s stored as %s%s", tl.Count, bytesText(raw), bytesText(tl.Stored), ratio(raw, tl.Stored)))
		if tl.Count > 0 {
			item("stored", fmt.Sprintf("%s … %s", d.time(tl.First), d.time(tl.Last)))
		}
	} else {
		item("segments", "none yet")
	}
	some := func(name string, texts []string, paint func(string) string) {
		for i, text := range texts {
			if i == most && len(texts) > most+1 {
				item("", fmt.Sprintf("… and %d more", len(texts)-i))
				break
			}
			if i > 0 && name != "GAP" {
				name = ""
			}
			d.add("%s%s %s", d.signs(indent), paint(fmt.Sprintf("%-9s", name)), paint(d.signs(text)))
		}
	}
	some("GAP", d.gapsOf(tl.ID), d.red)
	for _, b := range d.inv.Backups {
		if b.ID.Start.Timeline == tl.ID && b.Manifest != nil {
			d.backup(b, item)
		}
	}
	some("partial", names(tl.Partials), d.same)
	some("label", names(tl.Labels), d.same)
}

func (d *drawing) same(text string) string { return text }

func left(a walname.Ancestor) string {
	if a.Exact() {
		return fmt.Sprintf(", left timeline %d at %s", a.Timeline, a.Switch)
	}
	return fmt.Sprintf(", left timeline %d in %s", a.Timeline, a.SwitchSegment)
}

func ratio(raw, stored int64) string {
	if stored <= 0 {
		return ""
	}
	return fmt.Sprintf(", %.1f : 1", float64(raw)/float64(stored))
}

func (d *drawing) gapsOf(id walname.Timeline) []string {
	var texts []string
	for _, g := range d.inv.Gaps {
		switch {
		case g.First.Timeline != id:
		case g.Count == 1:
			texts = append(texts, g.First.String()+" is missing")
		default:
			texts = append(texts, fmt.Sprintf("%s … %s, %d missing", g.First, g.Last, g.Count))
		}
	}
	return texts
}

func names(strays []archive.Stray) []string {
	var list []string
	for _, s := range strays {
		list = append(list, oneLine(s.Name))
	}
	return list
}

// backup draws a base backup below its timeline.
func (d *drawing) backup(b archive.Backup, item func(name, text string)) {
	m := b.Manifest
	aim := d.inv.Newest()
	if d.only != 0 {
		aim = d.only
	}
	item("backup", d.green(b.ID.String()))
	item("", fmt.Sprintf("%s, %s stored as %s", d.time(m.End), bytesText(m.Size), bytesText(b.Stored)))
	r, ok := d.inv.RestorableTo(b, aim)
	switch {
	case b.Damage != "":
		for _, line := range wrapped("DAMAGED: "+oneLine(b.Damage), d.width-20) {
			item("", d.red(line))
		}
	case !ok:
		item("", d.red(fmt.Sprintf("USELESS: it needs %s, which is missing", r.Missing)))
	case !r.Whole():
		item("", d.red(fmt.Sprintf("only to %s: then %s is missing", r.To, r.Missing)))
	default:
		item("", fmt.Sprintf("restorable to %s along timeline %d", r.To, r.Timeline))
	}
}

// rest draws what belongs to no timeline.
func (d *drawing) rest() {
	section := len(d.lines)
	for _, b := range d.inv.Backups {
		switch {
		case b.Manifest != nil:
		case b.Damage != "":
			d.add("%s", d.red("DAMAGED   base/"+b.ID.String()))
			for _, line := range wrapped(oneLine(b.Damage), d.width-10) {
				d.add("%s", d.red("          "+line))
			}
		default:
			d.add("%s", d.yellow("unfinished base/"+b.ID.String()))
			d.add("          %s, %s, last written %s", files(b.Files), bytesText(b.Stored), d.time(b.Written))
			d.add("          in progress, or given up")
		}
	}
	for i, r := range d.inv.Refused {
		if i == most && len(d.inv.Refused) > most+1 {
			d.add("          %s", d.signs(fmt.Sprintf("… and %d more", len(d.inv.Refused)-i)))
			break
		}
		d.add("%s", d.red(fmt.Sprintf("refused   %s, %s", oneLine(r.Name), d.time(r.ModTime))))
	}
	for i, b := range d.inv.Broken {
		if i == most && len(d.inv.Broken) > most+1 {
			d.add("          %s", d.signs(fmt.Sprintf("… and %d more", len(d.inv.Broken)-i)))
			break
		}
		d.add("%s", d.red("DAMAGED   "+oneLine(strings.TrimPrefix(b.Name, d.inv.Cluster.Folder()+"/"))))
		for _, line := range wrapped(oneLine(b.Why), d.width-10) {
			d.add("%s", d.red("          "+line))
		}
	}
	if t := d.inv.Temporary; t.Count > 0 {
		d.add("tmp/      %s, %s, the oldest of %s", files(t.Count), bytesText(t.Size), d.time(t.Oldest))
	}
	if s := d.inv.Strays; s.Count > 0 {
		d.add("unknown   %s, such as %s", files(s.Count), oneLine(path.Base(s.Example)))
	}
	if len(d.lines) > section {
		d.add("")
	}
}

func files(n int64) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// restorable draws the line that matters most.
func (d *drawing) restorable() {
	aim := d.inv.Newest()
	if d.only != 0 {
		aim = d.only
	}
	r, ok := d.inv.Range(aim)
	if !ok {
		d.add("%s", d.red("nothing can be restored"+d.why(aim)))
		if first, c, ok := d.inv.Covered(aim); ok {
			d.add("  WAL without a gap, for a base backup from elsewhere:")
			d.add("  %s", d.signs(fmt.Sprintf("%s … %s, %s", first, c.Last, d.time(c.Stored))))
		}
		return
	}
	from, to := d.time(r.Oldest.Manifest.End), d.time(r.Stored)
	if r.Stored.IsZero() {
		to = r.To.String()
	}
	if r.Whole() {
		d.add("%s", d.green(fmt.Sprintf("restorable from %s to %s, without a gap", from, to)))
	} else {
		d.add("%s", d.red(fmt.Sprintf("restorable from %s to %s, and no further", from, to)))
		d.add("  %s", d.red(fmt.Sprintf("%s is missing, and no backup lies behind it", r.Missing)))
	}
	d.add("  %s to %s along timeline %d, with %s", r.From, r.To, r.Timeline, backups(r.Backups))
	d.add("  %s", r.Oldest.ID)
}

func backups(n int) string {
	if n == 1 {
		return "this backup:"
	}
	return fmt.Sprintf("%d backups, the oldest:", n)
}

// why nothing can be restored.
func (d *drawing) why(aim walname.Timeline) string {
	if len(d.inv.Backups) == 0 {
		return ": there is no base backup"
	}
	for _, b := range d.inv.Backups {
		if r, ok := d.inv.RestorableTo(b, aim); ok && b.Usable() && r.Timeline != aim {
			return fmt.Sprintf(" along timeline %d; see timeline %d", aim, r.Timeline)
		}
	}
	return ": no base backup is whole and has its WAL"
}

// brief draws a cluster in a few lines.
func (d *drawing) brief() []string {
	var segments, stored int64
	for _, tl := range d.inv.Timelines {
		segments += tl.Count
		stored += tl.Stored
	}
	d.add("%s, timeline %d, %d segments in %s", d.bold(fmt.Sprintf("cluster %d", d.inv.Cluster.SystemID)), d.inv.Newest(), segments, bytesText(stored))
	if n := len(d.inv.Gaps); n > 0 {
		d.add("  %s", d.red(fmt.Sprintf("gaps: %d", n)))
	}
	at := len(d.lines)
	d.restorable()
	d.lines[at] = "  " + d.lines[at]
	d.lines = d.lines[:at+1]
	return d.lines
}
