package walname

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// maxLabelSize bounds a backup label, bytes. PostgreSQL's are below 2,000.
const maxLabelSize = 64 << 10

// BackupLabel is what PostgreSQL writes down about a base backup: in
// backup_label when it begins, in the .backup file when it ends. What the file
// does not say is zero.
type BackupLabel struct {
	Start      LSN // where replay has to begin
	Stop       LSN // one past the last byte that the backup needs; only in .backup files
	Checkpoint LSN // of the backup's checkpoint record

	StartSegment Segment // the one that holds Start
	StopSegment  Segment // the one that holds the byte before Stop: the last that the backup needs

	StartTime, StopTime string // the server's clock in its log_timezone, as in 2026-11-22 06:38:05 UTC
	Label               string // its first line
	Method              string // pg_start_backup or streamed, from 9.1
	From                string // master, primary (14 and later) or standby, from 9.2

	StartTimeline, StopTimeline Timeline // from 11; before, see StartSegment
}

// Keys of the file, in the order in which they stand there.
const (
	keyStart         = "START WAL LOCATION"
	keyStop          = "STOP WAL LOCATION"
	keyCheckpoint    = "CHECKPOINT LOCATION"
	keyMethod        = "BACKUP METHOD"
	keyFrom          = "BACKUP FROM"
	keyStartTime     = "START TIME"
	keyLabel         = "LABEL"
	keyStartTimeline = "START TIMELINE"
	keyStopTime      = "STOP TIME"
	keyStopTimeline  = "STOP TIMELINE"
)

// ParseBackupLabel reads a backup_label or a .backup file. As for PostgreSQL,
// the start and the checkpoint must be there. Keys that it does not know are
// ignored. A file whose last line has no end is torn and therefore an error; so
// are a NUL and more than 64 KB.
func ParseBackupLabel(data []byte) (BackupLabel, error) {
	l, err := parseBackupLabel(data)
	if err != nil {
		return BackupLabel{}, fmt.Errorf("backup label: %w", err)
	}
	return l, nil
}

func parseBackupLabel(data []byte) (BackupLabel, error) {
	switch {
	case len(data) > maxLabelSize:
		return BackupLabel{}, fmt.Errorf("%d bytes are more than %d", len(data), maxLabelSize)
	case len(data) == 0:
		return BackupLabel{}, errors.New("the file is empty")
	case bytes.IndexByte(data, 0) >= 0:
		return BackupLabel{}, errors.New("a NUL: not a text file")
	case data[len(data)-1] != '\n':
		return BackupLabel{}, errors.New("the last line has no end")
	}

	v := labelValues(string(data))
	l := BackupLabel{
		StartTime: v[keyStartTime],
		StopTime:  v[keyStopTime],
		Label:     v[keyLabel],
		Method:    v[keyMethod],
		From:      v[keyFrom],
	}
	for _, key := range []string{keyStart, keyCheckpoint} {
		if _, ok := v[key]; !ok {
			return BackupLabel{}, fmt.Errorf("no line %q", key)
		}
	}
	for _, key := range []string{keyStart, keyStop, keyCheckpoint, keyStartTimeline, keyStopTimeline} {
		text, ok := v[key]
		if !ok {
			continue
		}
		var err error
		switch key {
		case keyStart:
			l.Start, l.StartSegment, err = parseLocation(text)
		case keyStop:
			l.Stop, l.StopSegment, err = parseLocation(text)
		case keyCheckpoint:
			l.Checkpoint, err = ParseLSN(text)
		case keyStartTimeline:
			l.StartTimeline, err = parseDecimal(text)
		case keyStopTimeline:
			l.StopTimeline, err = parseDecimal(text)
		}
		if err != nil {
			return BackupLabel{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	return l, nil
}

// labelValues returns the value of each key. PostgreSQL lets the label's text
// have several lines, and they may look like any of the file's own. So what
// belongs above the label counts only there, and of what belongs below it the
// last counts.
func labelValues(text string) map[string]string {
	v := make(map[string]string)
	labelled := false
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			continue
		}
		switch key {
		case keyStart, keyStop, keyCheckpoint, keyMethod, keyFrom, keyStartTime, keyLabel:
			if !labelled {
				v[key] = value
			}
			labelled = labelled || key == keyLabel
		case keyStartTimeline, keyStopTime, keyStopTimeline:
			v[key] = value
		}
	}
	return v
}

// parseLocation reads a position and its segment, as in
// 0/3000028 (file 000000010000000000000003).
func parseLocation(s string) (LSN, Segment, error) {
	position, file, _ := strings.Cut(s, " (file ")
	file, ok := strings.CutSuffix(file, ")")
	if !ok {
		return 0, Segment{}, fmt.Errorf("%s is not a position and a file", quote(s))
	}
	l, err := ParseLSN(position)
	if err != nil {
		return 0, Segment{}, err
	}
	n, err := Parse(file)
	if err != nil {
		return 0, Segment{}, err
	}
	if n.Kind != KindSegment {
		return 0, Segment{}, fmt.Errorf("file %s is not a segment", n)
	}
	return l, n.Segment, nil
}
