package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"walship/archive"
	"walship/walname"
)

// The schema of walship list --json, which docs/list.md describes. Fields are
// added, never renamed or removed.
const listFormat = 1

type jsonList struct {
	Archive  string        `json:"archive"`
	Flat     *jsonFlat     `json:"flat,omitempty"`
	Clusters []jsonCluster `json:"clusters"`
}

type jsonFlat struct {
	Files int64 `json:"files"`
	Size  int64 `json:"stored_size"`

	FirstName string `json:"first_segment,omitempty"`
	LastName  string `json:"last_segment,omitempty"`
}

type jsonCluster struct {
	SystemID    uint64           `json:"system_identifier,string"`
	PostgreSQL  string           `json:"postgresql,omitempty"`
	SegmentSize int64            `json:"segment_size"`
	Codec       string           `json:"codec"`
	Recipients  []string         `json:"recipients,omitempty"` // to whom files are encrypted; none: they are not
	Created     time.Time        `json:"created"`
	Newest      walname.Timeline `json:"newest_timeline"`
	Restorable  *jsonRange       `json:"restorable"`
	Covered     *jsonCovered     `json:"wal_without_gap"`
	Timelines   []jsonTimeline   `json:"timelines"`
	Gaps        []jsonGap        `json:"gaps"`
	Backups     []jsonBackup     `json:"backups"`
	Refused     []jsonFile       `json:"refused"`
	Damaged     []jsonDamaged    `json:"damaged"`
	Temporary   jsonCounted      `json:"temporary"`
	Unknown     jsonCounted      `json:"unknown"`
	WAL         []jsonSlot       `json:"wal_per_slot,omitempty"`
}

type jsonRange struct {
	Timeline walname.Timeline `json:"timeline"`
	FromTime time.Time        `json:"from_time"`
	FromLSN  walname.LSN      `json:"from_lsn"`
	ToTime   *time.Time       `json:"to_time"`
	ToLSN    walname.LSN      `json:"to_lsn"`
	Whole    bool             `json:"whole"`
	Missing  string           `json:"missing_segment,omitempty"`
	Oldest   string           `json:"oldest_backup"`
	Backups  int              `json:"backups"`
}

type jsonCovered struct {
	Timeline walname.Timeline `json:"timeline"`
	First    string           `json:"first_segment"`
	Last     string           `json:"last_segment"`
	ToTime   *time.Time       `json:"to_time"`
}

type jsonTimeline struct {
	Timeline walname.Timeline `json:"timeline"`
	Parent   *jsonFork        `json:"parent"`
	First    string           `json:"first_segment,omitempty"`
	Last     string           `json:"last_segment,omitempty"`
	Start    walname.LSN      `json:"start_lsn"`
	End      walname.LSN      `json:"end_lsn"`
	Segments int64            `json:"segments"`
	Size     int64            `json:"size"`
	Stored   int64            `json:"stored_size"`
	FirstAt  *time.Time       `json:"first_stored"`
	LastAt   *time.Time       `json:"last_stored"`
	Partials []jsonFile       `json:"partials"`
	Labels   []jsonFile       `json:"backup_labels"`
}

type jsonFork struct {
	Timeline walname.Timeline `json:"timeline"`
	LSN      *walname.LSN     `json:"switch_lsn"`
	Segment  string           `json:"switch_segment,omitempty"`
	Reason   string           `json:"reason"`
}

type jsonGap struct {
	Timeline walname.Timeline `json:"timeline"`
	First    string           `json:"first_segment"`
	Last     string           `json:"last_segment"`
	Segments int64            `json:"segments"`
}

type jsonBackup struct {
	Name       string           `json:"name"`
	State      string           `json:"state"` // complete, damaged, unfinished
	Damage     string           `json:"damage,omitempty"`
	Timeline   walname.Timeline `json:"timeline"`
	Start      *walname.LSN     `json:"start_lsn"`
	End        *walname.LSN     `json:"end_lsn"`
	Begin      *time.Time       `json:"begin"`
	Ended      *time.Time       `json:"end"`
	Size       int64            `json:"size"`
	Stored     int64            `json:"stored_size"`
	Files      int64            `json:"stored_files"`
	Written    *time.Time       `json:"last_stored"`
	Restorable bool             `json:"restorable"`
	Along      walname.Timeline `json:"along_timeline,omitempty"`
	To         *walname.LSN     `json:"to_lsn"`
	Missing    string           `json:"missing_segment,omitempty"`
}

type jsonFile struct {
	Name   string    `json:"name"`
	Size   int64     `json:"stored_size"`
	Stored time.Time `json:"stored"`
}

type jsonDamaged struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

type jsonCounted struct {
	Files  int64      `json:"files"`
	Size   int64      `json:"stored_size"`
	Oldest *time.Time `json:"oldest"`
}

type jsonSlot struct {
	From     time.Time `json:"from"`
	Segments int64     `json:"segments"`
	Size     int64     `json:"size"`
	Stored   int64     `json:"stored_size"`
}

// json writes one object. The files of --long are written as they are found, so
// that their number does not matter.
func (l *lister) json(ctx context.Context, choice choice, url string) error {
	list := jsonList{Archive: url, Clusters: []jsonCluster{}}
	if f := choice.root.Flat; f.Count > 0 {
		list.Flat = &jsonFlat{Files: f.Count, Size: f.Size}
		if choice.root.FlatFirst.Timeline != 0 {
			list.Flat.FirstName, list.Flat.LastName = choice.root.FlatFirst.String(), choice.root.FlatLast.String()
		}
	}
	begun := false // there is no way back to an error message alone
	var told func(archive.StoredFile) error
	if l.long {
		told = func(f archive.StoredFile) error {
			open := `{"format_version":1,"files":[`
			if begun {
				open = ","
			}
			begun = true
			line, err := json.Marshal(jsonFile{f.Stored, f.Size, f.ModTime.UTC()})
			if err == nil {
				_, err = fmt.Fprintf(plainJSON{l.out}, "%s\n%s", open, line)
			}
			return err
		}
	}
	for _, c := range choice.list {
		inv, chart, err := l.take(ctx, c, told)
		if err != nil {
			return err
		}
		list.Clusters = append(list.Clusters, l.cluster(inv, chart))
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	head := []byte(fmt.Sprintf("{\n  \"format_version\": %d,", listFormat))
	if begun {
		head = []byte("\n],")
	} else if l.long {
		head = append(head, "\n  \"files\": [],"...)
	}
	_, err = fmt.Fprintf(plainJSON{l.out}, "%s%s\n", head, bytes.TrimPrefix(text, []byte("{")))
	return err
}

func (l *lister) cluster(inv *archive.Inventory, chart *walChart) jsonCluster {
	id := inv.Identity
	j := jsonCluster{
		SystemID: id.SystemID, PostgreSQL: inv.Version, SegmentSize: id.SegmentSize, Codec: id.Codec, Recipients: id.RecipientList(), Created: id.Created.UTC(), Newest: inv.Newest(),
		Timelines: []jsonTimeline{}, Gaps: []jsonGap{}, Backups: []jsonBackup{}, Refused: jsonFiles(inv.Refused), Damaged: []jsonDamaged{},
		Temporary: counted(inv.Temporary), Unknown: counted(inv.Strays),
	}
	aim := inv.Newest()
	if l.timeline != 0 {
		aim = l.timeline
	}
	if r, ok := inv.Range(aim); ok {
		j.Restorable = &jsonRange{
			Timeline: r.Timeline, FromTime: r.Oldest.Manifest.End.UTC(), FromLSN: r.From, ToTime: moment(r.Stored), ToLSN: r.To,
			Whole: r.Whole(), Missing: segmentName(r.Missing), Oldest: r.Oldest.ID.String(), Backups: r.Backups,
		}
	}
	if first, r, ok := inv.Covered(aim); ok {
		j.Covered = &jsonCovered{Timeline: aim, First: first.String(), Last: r.Last.String(), ToTime: moment(r.Stored)}
	}
	for _, tl := range inv.Timelines {
		if l.timeline == 0 || tl.ID == l.timeline {
			j.Timelines = append(j.Timelines, jsonOfTimeline(inv, tl))
		}
	}
	for _, g := range inv.Gaps {
		if l.timeline == 0 || g.First.Timeline == l.timeline {
			j.Gaps = append(j.Gaps, jsonGap{g.First.Timeline, g.First.String(), g.Last.String(), g.Count})
		}
	}
	for _, b := range inv.Backups {
		if l.timeline == 0 || b.ID.Start.Timeline == l.timeline {
			j.Backups = append(j.Backups, jsonOfBackup(inv, b, aim))
		}
	}
	for _, b := range inv.Broken {
		j.Damaged = append(j.Damaged, jsonDamaged{b.Name, b.Why})
	}
	if l.per != "" {
		j.WAL = []jsonSlot{}
		for _, t := range chart.begins(0) {
			s := chart.slots[t]
			j.WAL = append(j.WAL, jsonSlot{t.UTC(), s.segments, s.segments * id.SegmentSize, s.stored})
		}
	}
	return j
}

func jsonOfTimeline(inv *archive.Inventory, tl *archive.Timeline) jsonTimeline {
	t := jsonTimeline{
		Timeline: tl.ID, Segments: tl.Count, Size: tl.Count * inv.Identity.SegmentSize, Stored: tl.Stored,
		FirstAt: moment(tl.First), LastAt: moment(tl.Last), Partials: jsonFiles(tl.Partials), Labels: jsonFiles(tl.Labels),
	}
	if n := len(tl.Runs); n > 0 {
		first, last := tl.Runs[0].First, tl.Runs[n-1].Last
		t.First, t.Last, t.Start, t.End = first.String(), last.String(), inv.Geometry.Start(first), inv.Geometry.End(last)
	}
	if tl.History != nil {
		a := tl.History.Parent()
		t.Parent = &jsonFork{Timeline: a.Timeline, Segment: segmentName(a.SwitchSegment), Reason: oneLine(a.Reason)}
		if a.Exact() {
			t.Parent.LSN = &a.Switch
		}
	}
	return t
}

func jsonOfBackup(inv *archive.Inventory, b archive.Backup, aim walname.Timeline) jsonBackup {
	j := jsonBackup{
		Name: b.ID.String(), State: "complete", Damage: b.Damage, Timeline: b.ID.Start.Timeline,
		Stored: b.Stored, Files: b.Files, Written: moment(b.Written),
	}
	switch {
	case b.Damage != "":
		j.State = "damaged"
	case b.Manifest == nil:
		j.State = "unfinished"
	}
	m := b.Manifest
	if m == nil {
		return j
	}
	j.Timeline, j.Start, j.End, j.Begin, j.Ended, j.Size = m.Timeline, &m.StartLSN, &m.EndLSN, moment(m.Begin), moment(m.End), m.Size
	r, ok := inv.RestorableTo(b, aim)
	j.Restorable, j.Missing = ok && b.Usable(), segmentName(r.Missing)
	if ok {
		j.Along, j.To = r.Timeline, &r.To
	}
	return j
}

// moment is a time, or null if it is not known.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func segmentName(s walname.Segment) string {
	if s.Timeline == 0 {
		return ""
	}
	return s.String()
}

func jsonFiles(strays []archive.Stray) []jsonFile {
	list := []jsonFile{}
	for _, s := range strays {
		list = append(list, jsonFile{s.Name, s.Size, s.ModTime.UTC()})
	}
	return list
}

func counted(s archive.Strays) jsonCounted {
	return jsonCounted{s.Count, s.Size, moment(s.Oldest)}
}
