package main

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"walship/archive"
	"walship/walname"
)

// walChart counts the segments that came in each hour or day.
type walChart struct {
	per     string // "hour" or "day"
	zone    *time.Location
	segment int64 // bytes
	slots   map[time.Time]walSlot
}

type walSlot struct{ segments, stored int64 }

func (c *walChart) add(f archive.StoredFile) {
	if f.Name.Kind != walname.KindSegment || f.Broken != "" {
		return
	}
	at := c.begin(f.ModTime)
	s := c.slots[at]
	s.segments++
	s.stored += f.Size
	c.slots[at] = s
}

// begin is when the hour or the day of t began.
func (c *walChart) begin(t time.Time) time.Time {
	t = t.In(c.zone)
	if c.per == "day" {
		return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, c.zone)
	}
	return t.Truncate(time.Hour)
}

// next is when the following one begins.
func (c *walChart) next(t time.Time) time.Time {
	if c.per == "day" {
		return c.begin(t.AddDate(0, 0, 1))
	}
	return t.Add(time.Hour)
}

// begins lists them from the first to the last, those without WAL included, the
// newest limit of them; all if limit is 0.
func (c *walChart) begins(limit int) []time.Time {
	if len(c.slots) == 0 {
		return nil
	}
	var some []time.Time
	for t := range c.slots {
		some = append(some, t)
	}
	sort.Slice(some, func(i, j int) bool { return some[i].Before(some[j]) })
	var all []time.Time
	for t := some[0]; !t.After(some[len(some)-1]); t = c.next(t) {
		all = append(all, t)
		if limit > 0 && len(all) > limit {
			all = all[1:]
		}
	}
	return all
}

// chartRows is how many rows are drawn: two days, or a month.
var chartRows = map[string]int{"hour": 48, "day": 31}

// draw draws a bar for each.
func (c *walChart) draw(p paint) []string {
	begins := c.begins(chartRows[c.per])
	if len(begins) == 0 {
		return []string{"", "no WAL was stored in that time"}
	}
	lines := []string{"", "WAL stored in each " + c.per + ", before compression"}
	var top int64
	for _, t := range begins {
		top = max(top, c.slots[t].segments)
	}
	form := map[string]string{"hour": "2006-01-02 15h", "day": "2006-01-02"}[c.per]
	for _, t := range begins {
		s := c.slots[t]
		line := fmt.Sprintf("%s %9s ", t.Format(form), bytesText(s.segments*c.segment))
		room := int64(p.width - len(line) - 1)
		halves := (2*room*s.segments + top - 1) / max(top, 1)
		bar := strings.Repeat("█", int(halves/2))
		if halves%2 == 1 && (halves > 1 || !p.ascii) {
			bar += "▌"
		} else if halves == 1 {
			bar = "█"
		}
		lines = append(lines, strings.TrimRight(line+p.signs(bar), " "))
	}
	return lines
}
