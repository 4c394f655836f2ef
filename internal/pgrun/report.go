package pgrun

import (
	"strconv"
	"strings"

	"walship/internal/lazyre"
	"walship/walname"
)

// Report is what the log of a server has told of its recovery so far. The texts
// that it looks for are those of PostgreSQL 9.0 to 18 in English; of a server that
// speaks another language only the names of segments are understood.
type Report struct {
	Segment    string           // the last segment that came from the archive, "" before the first
	Redo       walname.LSN      // where replay began, 0 before it does
	Consistent bool             // the copy is consistent
	Stop       string           // the line that says where recovery stopped: its target was reached
	Paused     bool             // it waits for pg_wal_replay_resume
	Shut       bool             // it shuts down at its target, as it was told
	Done       walname.LSN      // where replay ended
	Last       string           // the line with the last replayed transaction's time
	Timeline   walname.Timeline // the one that was chosen at the end, 0 before
	Open       bool             // it takes connections and writes

	fatal   string // the line that ended it
	cause   string // a line before it that says why
	walship string // what restore_command said last, and its hint
	hint    string
	warning string
	recent  string
	printed string // what a command has printed since the server's last line
}

var (
	segmentName  = lazyre.MustCompile(`["'«»„“”‘’]([0-9A-F]{24})["'«»„“”‘’]`)
	position     = lazyre.MustCompile(`[0-9A-F]{1,8}/[0-9A-F]{1,8}`)
	timelineID   = lazyre.MustCompile(`selected new timeline ID: (\d+)`)
	severityMark = lazyre.MustCompile(`(LOG|WARNING|ERROR|FATAL|PANIC|HINT|DETAIL|CONTEXT|STATEMENT|NOTICE):  `)
)

// clients are beginnings of FATAL messages that end a connection, not the server.
var clients = []string{
	"the database system is ", "password authentication failed", "no pg_hba.conf entry", "role \"", "database \"",
	"terminating ", "peer authentication failed", "ident authentication failed", "sorry, too many clients",
	"remaining connection slots", "unsupported frontend protocol", "connection to client lost", "no PostgreSQL user name",
	"pg_hba.conf rejects", "authentication failed", "connection authorization failed", "canceling authentication",
}

// Line takes in a line of the log.
func (r *Report) Line(line string) {
	line = strings.TrimRight(line, "\r ")
	if text, ok := strings.CutPrefix(line, "walship: "); ok {
		if hint, ok := strings.CutPrefix(text, "hint: "); !ok {
			r.walship, r.hint = text, ""
		} else if r.hint == "" {
			r.hint = hint
		}
		return
	}
	severity, text := "", line
	if m := severityMark().FindStringSubmatchIndex(line); m != nil {
		severity, text = line[m[2]:m[3]], line[m[1]:]
	}
	switch severity {
	case "CONTEXT", "STATEMENT":
		return
	case "HINT", "DETAIL":
		if r.warning != "" && r.fatal == "" && severity == "DETAIL" {
			r.warning += ": " + text
		}
		return
	case "FATAL", "PANIC":
		for _, start := range clients {
			if strings.HasPrefix(text, start) {
				return
			}
		}
		if r.fatal == "" || severity == "PANIC" {
			r.fatal, r.cause = severity+":  "+text, r.recent
			if strings.HasPrefix(text, "could not restore file") {
				r.cause = r.printed
			}
		}
		return
	case "WARNING":
		r.warning = text
	}
	r.event(text)
	if severity == "LOG" || severity == "WARNING" || severity == "ERROR" {
		r.recent, r.printed = text, ""
	} else if severity == "" && text != "" && !strings.HasPrefix(text, "\t") {
		r.recent, r.printed = text, text
	}
}

// event takes in what is no end.
func (r *Report) event(text string) {
	switch {
	case strings.HasPrefix(text, "redo starts at "):
		r.Redo = lsnIn(text)
	case strings.HasPrefix(text, "consistent recovery state reached"):
		r.Consistent = true
	case strings.HasPrefix(text, "recovery stopping "):
		r.Stop = text
	case strings.HasPrefix(text, "recovery has paused"), strings.HasPrefix(text, "pausing at the end of recovery"):
		r.Paused = true
	case strings.HasPrefix(text, "shutdown at recovery target"):
		r.Shut = true
	case strings.HasPrefix(text, "redo done at "):
		r.Done, r.Paused = lsnIn(text), false
	case strings.HasPrefix(text, "last completed transaction was at log time "):
		r.Last = strings.TrimPrefix(text, "last completed transaction was at log time ")
	case strings.HasPrefix(text, "database system is ready to accept connections"):
		r.Open = true
	case strings.HasPrefix(text, "selected new timeline ID: "):
		if m := timelineID().FindStringSubmatch(text); m != nil {
			n, _ := strconv.ParseUint(m[1], 10, 32) // digits; too many of them are 0
			r.Timeline = walname.Timeline(n)
		}
	default:
		m := segmentName().FindStringSubmatch(text)
		if m == nil || strings.Contains(text, "could not") {
			return
		}
		if n, err := walname.Parse(m[1]); err == nil && n.Kind == walname.KindSegment {
			r.Segment = m[1]
		}
	}
}

// Decisive returns the line that says best why the server has ended, and a hint
// that came with it or "".
func (r *Report) Decisive() (line, hint string) {
	switch {
	case r.fatal == "" && r.walship != "":
		return r.walship, r.hint
	case r.fatal == "":
		return r.recent, ""
	case strings.Contains(r.fatal, "could not restore file") && r.walship != "":
		return r.fatal + ": " + r.walship, r.hint
	case r.cause != "" && explained(r.fatal):
		return r.fatal + ": " + r.cause, ""
	}
	return r.fatal, ""
}

// explained reports whether the line before the server's last says what was wrong.
func explained(fatal string) bool {
	for _, vague := range []string{"could not restore file", "contains errors", "could not create any", "could not bind", "could not load pg_hba.conf", "requested recovery stop point"} {
		if strings.Contains(fatal, vague) {
			return true
		}
	}
	return false
}

// unreached reports whether recovery ended before its target, in the words of 13
// and later.
func (r *Report) unreached() bool {
	return strings.Contains(r.fatal, "recovery ended before configured recovery target was reached")
}

func lsnIn(text string) walname.LSN {
	lsn, err := walname.ParseLSN(position().FindString(text))
	if err != nil {
		return 0
	}
	return lsn
}
