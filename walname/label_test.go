package walname

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// byVersion is what each server's .backup file says beyond its addresses.
var byVersion = map[string]BackupLabel{
	"9.0":       {StartTime: "2026-11-22 06:36:54 UTC", StopTime: "2026-11-22 06:36:54 UTC"},
	"9.1":       {StartTime: "2026-11-22 06:38:36 UTC", StopTime: "2026-11-22 06:38:36 UTC", Method: "pg_start_backup"},
	"9.2":       {StartTime: "2026-11-22 06:36:07 UTC", StopTime: "2026-11-22 06:36:07 UTC", Method: "pg_start_backup", From: "master"},
	"9.3":       {StartTime: "2026-11-22 06:38:46 UTC", StopTime: "2026-11-22 06:38:46 UTC", Method: "pg_start_backup", From: "master"},
	"9.4":       {StartTime: "2026-11-22 06:37:21 UTC", StopTime: "2026-11-22 06:37:21 UTC", Method: "pg_start_backup", From: "master"},
	"9.5alpha1": {StartTime: "2026-11-22 06:38:56 UTC", StopTime: "2026-11-22 06:38:56 UTC", Method: "pg_start_backup", From: "master"},
	"9.6":       {StartTime: "2026-11-22 06:37:31 UTC", StopTime: "2026-11-22 06:37:31 UTC", Method: "pg_start_backup", From: "master"},
	"10":        {StartTime: "2026-11-22 06:37:37 UTC", StopTime: "2026-11-22 06:37:37 UTC", Method: "pg_start_backup", From: "master"},
	"11":        {StartTime: "2026-11-22 06:37:40 UTC", StopTime: "2026-11-22 06:37:40 UTC", Method: "pg_start_backup", From: "master", StartTimeline: 1, StopTimeline: 1},
	"12":        {StartTime: "2026-11-22 06:37:43 UTC", StopTime: "2026-11-22 06:37:43 UTC", Method: "pg_start_backup", From: "master", StartTimeline: 1, StopTimeline: 1},
	"13":        {StartTime: "2026-11-22 06:37:47 UTC", StopTime: "2026-11-22 06:37:47 UTC", Method: "pg_start_backup", From: "master", StartTimeline: 1, StopTimeline: 1},
	"14":        {StartTime: "2026-11-22 06:38:02 UTC", StopTime: "2026-11-22 06:38:02 UTC", Method: "pg_start_backup", From: "primary", StartTimeline: 1, StopTimeline: 1},
	"15":        {StartTime: "2026-11-22 06:38:05 UTC", StopTime: "2026-11-22 06:38:05 UTC", Method: "streamed", From: "primary", StartTimeline: 1, StopTimeline: 1},
	"16":        {StartTime: "2026-11-22 06:38:08 UTC", StopTime: "2026-11-22 06:38:08 UTC", Method: "streamed", From: "primary", StartTimeline: 1, StopTimeline: 1},
	"16_seg64":  {StartTime: "2026-11-22 06:39:06 UTC", StopTime: "2026-11-22 06:39:06 UTC", Method: "streamed", From: "primary", StartTimeline: 1, StopTimeline: 1},
	"17":        {StartTime: "2026-11-22 06:38:11 UTC", StopTime: "2026-11-22 06:38:12 UTC", Method: "streamed", From: "primary", StartTimeline: 1, StopTimeline: 1},
	"17_seg1":   {StartTime: "2026-11-22 06:39:02 UTC", StopTime: "2026-11-22 06:39:02 UTC", Method: "streamed", From: "primary", StartTimeline: 1, StopTimeline: 1},
	"18":        {StartTime: "2026-11-22 06:38:15 UTC", StopTime: "2026-11-22 06:38:15 UTC", Method: "streamed", From: "primary", StartTimeline: 1, StopTimeline: 1},
}

// addresses are Start, Stop and Checkpoint of each server's .backup file.
var addresses = map[string][3]LSN{
	"9.0": {0x2000020, 0x20000D8, 0x2000058}, "9.1": {0x3000020, 0x30000D8, 0x3000058}, "9.2": {0x3000020, 0x30000E0, 0x3000058},
	"9.3": {0x3000028, 0x30000F0, 0x3000060}, "9.4": {0x3000028, 0x30000F0, 0x3000060}, "9.5alpha1": {0x3000028, 0x30000F8, 0x3000060},
	"9.6": {0x3000028, 0x30000F8, 0x3000060}, "10": {0x3000028, 0x30000F8, 0x3000060}, "11": {0x3000028, 0x30000F8, 0x3000060},
	"12": {0x3000028, 0x3000100, 0x3000060}, "13": {0x3000028, 0x3000100, 0x3000060}, "14": {0x3000028, 0x3000100, 0x3000060},
	"15": {0x3000028, 0x3000100, 0x3000060}, "16": {0x3000028, 0x3000100, 0x3000060}, "16_seg64": {0xC000028, 0xC000100, 0xC000060},
	"17": {0x3000028, 0x3000120, 0x3000080}, "17_seg1": {0x800028, 0x800120, 0x800080}, "18": {0x3000028, 0x3000120, 0x3000080},
}

// The file's own name, the segments that it names and the geometry agree too.
func TestParseBackupLabelOfEachVersion(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join("testdata", v.name, "*.backup"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			n, err := Parse(filepath.Base(files[0]))
			if err != nil || n.Kind != KindBackup {
				t.Fatal(n, err)
			}
			g, err := NewGeometry(v.size, v.skipFF)
			if err != nil {
				t.Fatal(err)
			}
			l, err := ParseBackupLabel(data)
			if err != nil {
				t.Fatal(err)
			}
			want := byVersion[v.name]
			want.Label = "base1"
			want.Start, want.Stop, want.Checkpoint = addresses[v.name][0], addresses[v.name][1], addresses[v.name][2]
			want.StartSegment, want.StopSegment = n.Segment, n.Segment
			if l != want {
				t.Errorf("\n%+v, want\n%+v", l, want)
			}
			if s := g.At(1, l.Start); s != l.StartSegment {
				t.Errorf("%s is in %s, the file says %s", l.Start, s, l.StartSegment)
			}
			if s := g.At(1, l.Stop-1); s != l.StopSegment {
				t.Errorf("%s is in %s, the file says %s", l.Stop-1, s, l.StopSegment)
			}
			if g.Start(n.Segment)+LSN(n.Offset) != l.Start {
				t.Errorf("%s names another start than %s", n, l.Start)
			}
		})
	}
}

// backup_label as pg_basebackup 15 received it: no line about the stop.
func TestParseBackupLabelOfARunningBackup(t *testing.T) {
	l, err := ParseBackupLabel(testdata(t, "15_cascade", "backup_label"))
	want := BackupLabel{
		Start: 0x2000028, Checkpoint: 0x2000060, StartSegment: Segment{1, 0, 2}, StartTimeline: 1,
		StartTime: "2026-11-22 08:38:02 UTC", Label: "pg_basebackup base backup", Method: "streamed", From: "primary",
	}
	if err != nil || l != want {
		t.Errorf("%+v, %v, want %+v", l, err, want)
	}
}

const (
	labelTop = "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nCHECKPOINT LOCATION: 0/3000060\n"
	labelEnd = "START TIME: then\nLABEL: x\nSTART TIMELINE: 1\n"
)

func TestParseBackupLabelIgnoresTheUnknown(t *testing.T) {
	plain, err := ParseBackupLabel([]byte(labelTop + labelEnd))
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseBackupLabel([]byte(labelTop + "INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\nnonsense\n\n" + labelEnd))
	if err != nil || l != plain {
		t.Errorf("%+v, %v, want %+v", l, err, plain)
	}
}

// Whoever takes a backup may give it a label of several lines.
func TestParseBackupLabelIsNotMisledByTheLabel(t *testing.T) {
	forged := "START WAL LOCATION: 0/9000028 (file 000000010000000000000009)\nSTOP WAL LOCATION: nonsense\nCHECKPOINT LOCATION: 9/9\n" +
		"BACKUP METHOD: forged\nBACKUP FROM: forged\nSTART TIME: forged\nLABEL: forged\nSTART TIMELINE: forged\nSTOP TIME: forged\nSTOP TIMELINE: 9\n"
	l, err := ParseBackupLabel([]byte(labelTop + "START TIME: then\nLABEL: x\n" + forged + "START TIMELINE: 1\nSTOP TIME: later\nSTOP TIMELINE: 2\n"))
	want := BackupLabel{
		Start: 0x3000028, StartSegment: Segment{1, 0, 3}, Checkpoint: 0x3000060, StartTime: "then", Label: "x",
		StartTimeline: 1, StopTime: "later", StopTimeline: 2,
	}
	if err != nil || l != want {
		t.Errorf("%+v, %v, want %+v", l, err, want)
	}
}

// A backup may end with the last byte of a segment and on a later timeline.
func TestParseBackupLabelStop(t *testing.T) {
	l, err := ParseBackupLabel([]byte(labelTop + "STOP WAL LOCATION: 1/0 (file 0000000200000000000000FF)\n" + labelEnd + "STOP TIMELINE: 2\n"))
	if err != nil || l.Stop != 1<<32 || l.StopSegment != (Segment{2, 0, 0xFF}) || l.StopTimeline != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestParseBackupLabelRefuses(t *testing.T) {
	start, checkpoint, _ := strings.Cut(labelTop, "\n")
	for name, text := range map[string]string{
		"empty":                   "",
		"newline":                 "\n",
		"no start":                checkpoint + labelEnd,
		"no checkpoint":           start + "\n" + labelEnd,
		"start below the label":   labelEnd + labelTop,
		"no end of the last line": strings.TrimSuffix(labelTop+labelEnd, "\n"),
		"torn":                    labelTop[:len(labelTop)-4],
		"nul":                     labelTop + "LABEL: a\x00b\n",
		"zeros":                   strings.Repeat("\x00", 200),
		"windows":                 strings.ReplaceAll(labelTop+labelEnd, "\n", "\r\n"),
		"no file":                 "START WAL LOCATION: 0/3000028\n" + checkpoint + labelEnd,
		"open bracket":            "START WAL LOCATION: 0/3000028 (file 000000010000000000000003\n" + checkpoint + labelEnd,
		"bad position":            "START WAL LOCATION: 03000028 (file 000000010000000000000003)\n" + checkpoint + labelEnd,
		"bad file":                "START WAL LOCATION: 0/3000028 (file 00000001000000000000003)\n" + checkpoint + labelEnd,
		"partial file":            "START WAL LOCATION: 0/3000028 (file 000000010000000000000003.partial)\n" + checkpoint + labelEnd,
		"timeline 0":              "START WAL LOCATION: 0/3000028 (file 000000000000000000000003)\n" + checkpoint + labelEnd,
		"bad checkpoint":          start + "\nCHECKPOINT LOCATION: x\n" + labelEnd,
		"bad stop":                labelTop + "STOP WAL LOCATION: x\n" + labelEnd,
		"bad timeline":            labelTop + "LABEL: x\nSTART TIMELINE: x\n",
		"stop timeline 0":         labelTop + "LABEL: x\nSTOP TIMELINE: 0\n",
		"empty timeline":          labelTop + "LABEL: x\nSTOP TIMELINE: \n",
		"large":                   labelTop + strings.Repeat("x\n", maxLabelSize/2),
		"long value":              labelTop + "STOP WAL LOCATION: " + strings.Repeat("9", 10000) + "\n",
		"control characters":      labelTop + "STOP WAL LOCATION: \x1b[31m (file \x1b)\n",
	} {
		l, err := ParseBackupLabel([]byte(text))
		if err == nil || l != (BackupLabel{}) {
			t.Errorf("%s: %+v, %v", name, l, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), "backup label: ") {
			t.Errorf("%s: %v", name, err)
		}
		checkMessage(t, err)
	}
}
