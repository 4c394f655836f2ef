package restore

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"walship/internal/lazyre"
	"walship/walname"
)

// Kind tells how a target is given.
type Kind string

// The kinds of targets.
const (
	Latest    Kind = ""          // the end of the archived WAL
	Immediate Kind = "immediate" // as soon as the copy is consistent
	AtTime    Kind = "time"
	AtLSN     Kind = "lsn"
	AtName    Kind = "name" // a restore point
	AtXID     Kind = "xid"
)

// Target is where recovery ends.
type Target struct {
	Kind      Kind
	Time      time.Time
	LSN       walname.LSN
	Name      string
	XID       uint64
	Exclusive bool // just before what a time, LSN or transaction names
}

// timeForm is how a target's time is written for PostgreSQL, and for people.
const timeForm = "2006-01-02 15:04:05.999999-07:00"

// String says where recovery ends, in words.
func (t Target) String() string {
	before := ""
	if t.Exclusive {
		before = "just before "
	}
	switch t.Kind {
	case Immediate:
		return "as soon as the copy is consistent"
	case AtTime:
		return before + "time " + t.Time.Format(timeForm)
	case AtLSN:
		return before + "LSN " + t.LSN.String()
	case AtName:
		return fmt.Sprintf("restore point %q", t.Name)
	case AtXID:
		return before + "transaction " + strconv.FormatUint(t.XID, 10)
	}
	return "the latest archived WAL"
}

// Value is the target as it is given on a command line, "" where there is none.
func (t Target) Value() string {
	switch t.Kind {
	case AtTime:
		return t.Time.Format(timeForm)
	case AtLSN:
		return t.LSN.String()
	case AtName:
		return t.Name
	case AtXID:
		return strconv.FormatUint(t.XID, 10)
	}
	return ""
}

// check returns an error for a target that no server knows.
func (t Target) check() error {
	switch {
	case t.Kind == AtName && (t.Name == "" || len(t.Name) > 63 || strings.ContainsAny(t.Name, "\n\r\x00")):
		return fmt.Errorf("%w: a restore point's name has 1 to 63 bytes on one line", ErrOptions)
	case t.Kind == AtXID && uint32(t.XID) < 3:
		return fmt.Errorf("%w: there is no transaction %d", ErrOptions, t.XID)
	case t.Exclusive && (t.Kind == Latest || t.Kind == Immediate || t.Kind == AtName):
		return fmt.Errorf("%w: only a time, an LSN or a transaction can be excluded", ErrOptions)
	}
	return nil
}

var (
	clockText = lazyre.MustCompile(`^(\d{1,2}):(\d{2})(?::(\d{2})(\.\d{1,9})?)?$`)
	dayText   = lazyre.MustCompile(`^(\d{4})-(\d{1,2})-(\d{1,2})$`)
	agoText   = lazyre.MustCompile(`^(\d{1,6})\s*([a-z]+)\s*`)
	zoneText  = lazyre.MustCompile(`^([+-])(\d{1,2})(?::?(\d{2}))?$`)
	zoneSplit = lazyre.MustCompile(`^(.*\d)\s*([+-]\d[\d:]*|[Zz])$`)
)

// ParseTime reads a point in time as psql's users write it: a date, or a date
// and a time of day, perhaps with a zone behind it (+01, +01:00, Z, UTC,
// Europe/Berlin); "today" and "yesterday" with or without a time of day; and
// "5 minutes ago". Without a zone it is local's. A time of day that a change of
// clocks makes happen twice is the later one, as for PostgreSQL, and one that it
// leaves out is an error.
func ParseTime(text string, now time.Time, local *time.Location) (time.Time, error) {
	t, err := parseTime(strings.TrimSpace(text), now, local)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time: %w", text, err)
	}
	if t.Year() < 1990 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%q is no time at which there was a backup", text)
	}
	return t.Truncate(time.Microsecond), nil // PostgreSQL's own resolution
}

const timeHelp = `it is given like "2026-11-22 14:05", "2026-11-22 14:05:30.5+01", "yesterday 14:05" or "5 minutes ago"`

func parseTime(text string, now time.Time, local *time.Location) (time.Time, error) {
	if rest, ok := strings.CutSuffix(strings.ToLower(text), "ago"); ok {
		d, err := parseAgo(rest)
		return now.Add(-d).In(local), err
	}
	day, rest := text, ""
	if i := strings.IndexAny(text, " \tT"); i == 10 || i > 0 && text[i] != 'T' {
		day, rest = text[:i], strings.TrimSpace(text[i+1:])
	}
	zone := local
	clock := rest
	if m := zoneSplit().FindStringSubmatch(rest); m != nil {
		var err error
		if zone, err = parseZone(m[2]); err != nil {
			return time.Time{}, err
		}
		clock = strings.TrimSpace(m[1])
	} else if c, name, ok := strings.Cut(rest, " "); ok {
		z, err := namedZone(strings.TrimSpace(name), local)
		if err != nil {
			return time.Time{}, err
		}
		zone, clock = z, c
	}
	var y, mon, d int
	switch strings.ToLower(day) {
	case "today":
		y, mon, d = date(now.In(zone))
	case "yesterday":
		y, mon, d = date(now.In(zone))
		d--
	default:
		m := dayText().FindStringSubmatch(day)
		if m == nil {
			return time.Time{}, fmt.Errorf("%s", timeHelp)
		}
		y, mon, d = atoi(m[1]), atoi(m[2]), atoi(m[3])
		if mon < 1 || mon > 12 || d < 1 || d > time.Date(y, time.Month(mon)+1, 0, 0, 0, 0, 0, time.UTC).Day() {
			return time.Time{}, fmt.Errorf("there is no such day")
		}
	}
	var h, min, s, ns int
	if clock != "" {
		m := clockText().FindStringSubmatch(clock)
		if m == nil {
			return time.Time{}, fmt.Errorf("%s", timeHelp)
		}
		h, min, s = atoi(m[1]), atoi(m[2]), atoi(m[3])
		if m[4] != "" {
			ns = atoi((m[4][1:] + "000000000")[:9])
		}
		if h > 23 || min > 59 || s > 59 {
			return time.Time{}, fmt.Errorf("there is no such time of day")
		}
	}
	t := time.Date(y, time.Month(mon), d, h, min, s, ns, zone)
	for _, shift := range []time.Duration{time.Hour, 30 * time.Minute} {
		if later := t.Add(shift); later.Format(time.DateTime) == t.Format(time.DateTime) {
			t = later
			break
		}
	}
	if th, tm, _ := t.Clock(); th != h || tm != min {
		return time.Time{}, fmt.Errorf("the clocks were changed and left that time out; give it with its offset, such as +01")
	}
	return t, nil
}

func date(t time.Time) (year, month, day int) { return t.Year(), int(t.Month()), t.Day() }

// atoi reads digits that a regular expression has bounded.
func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

// parseAgo reads "2 hours 30 minutes", "90s" and the like.
func parseAgo(text string) (time.Duration, error) {
	units := map[string]time.Duration{"s": time.Second, "sec": time.Second, "second": time.Second,
		"m": time.Minute, "min": time.Minute, "minute": time.Minute, "h": time.Hour, "hour": time.Hour,
		"d": 24 * time.Hour, "day": 24 * time.Hour, "w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour}
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, fmt.Errorf("%s", timeHelp)
	}
	var total time.Duration
	for text != "" {
		m := agoText().FindStringSubmatch(text)
		if m == nil {
			return 0, fmt.Errorf("%s", timeHelp)
		}
		unit, ok := units[m[2]]
		if !ok {
			unit, ok = units[strings.TrimSuffix(m[2], "s")]
		}
		if !ok {
			return 0, fmt.Errorf("%q is no unit of time (seconds, minutes, hours, days, weeks)", m[2])
		}
		const most = 100 * 365 * 24 * time.Hour
		n := time.Duration(atoi(m[1]))
		if n > most/unit {
			return 0, fmt.Errorf("that is too long ago")
		}
		if total += n * unit; total > most {
			return 0, fmt.Errorf("that is too long ago")
		}
		text = text[len(m[0]):]
	}
	return total, nil
}

// parseZone reads +01, +0130, -03:30 and Z.
func parseZone(s string) (*time.Location, error) {
	if s == "Z" || s == "z" {
		return time.UTC, nil
	}
	m := zoneText().FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf("%q is no offset from UTC, such as +01 or +05:30", s)
	}
	h, min := atoi(m[2]), atoi(m[3])
	if h > 15 || min > 59 {
		return nil, fmt.Errorf("%q is no offset from UTC", s)
	}
	offset := h*3600 + min*60
	if m[1] == "-" {
		offset = -offset
	}
	return time.FixedZone("", offset), nil
}

// namedZone reads UTC, Europe/Berlin, and the abbreviations of local's own two
// offsets. Others' abbreviations mean different zones to different people.
func namedZone(name string, local *time.Location) (*time.Location, error) {
	switch strings.ToUpper(name) {
	case "UTC", "GMT":
		return time.UTC, nil
	}
	for _, month := range []time.Month{time.January, time.July} {
		t := time.Date(2026, month, 1, 0, 0, 0, 0, local)
		if abbr, offset := t.Zone(); strings.EqualFold(abbr, name) {
			return time.FixedZone("", offset), nil
		}
	}
	if strings.Contains(name, "/") && !strings.Contains(name, "..") {
		if l, err := time.LoadLocation(name); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("time zone %q is not known here; give the offset, such as +01", name)
}
