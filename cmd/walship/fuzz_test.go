package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"walship/walname"
)

// Whatever text comes from anywhere, what is shown is one line that can be seen.
func FuzzShown(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[2J", "\u202e\u009b\u200b", "\xff\xfe", "two\nlines", "\U000e0041", "ä€😀", "\\u0000\"", "\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range oneLine(text) {
			if !unicode.IsPrint(r) {
				t.Errorf("%q shows %q", text, r)
			}
		}
		var out bytes.Buffer
		value := map[string]string{"text": text}
		if err := json.NewEncoder(plainJSON{&out}).Encode(value); err != nil {
			t.Fatal(err)
		}
		for _, r := range out.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%q shows %q as JSON", text, r)
			}
		}
		var back map[string]string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || !reflect.DeepEqual(back, map[string]string{"text": strings.ToValidUTF8(text, "\ufffd")}) && strings.ToValidUTF8(text, "") == text {
			t.Errorf("%q came back as %q, %v", text, back, err)
		}
	})
}

// Whatever words the command line has, it is put in order or refused.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"push\x00%p\x00%f", "--config\x00x\x00fetch\x00a\x00b", "setup\x00ssh\x00--append-only\x00--archive\x00x", "--\x00push", "help\x00setup\x00ssh", "-", "--=", "--mode", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, words string) {
		args := append([]string{"walship"}, strings.Split(words, "\x00")...)
		comparePlain(t, args)
		line := arrange(args)
		if line.command != "" && (len(line.args) < 2 || line.args[1] != line.command) {
			t.Errorf("%q: %+v", args, line)
		}
		for _, a := range line.args[1:] {
			// "setup ssh" is one word of two.
			if a != "--" && !strings.Contains(strings.ReplaceAll(words, "\x00", " "), strings.ReplaceAll(a, "\x00", " ")) {
				t.Errorf("%q: %q comes from nowhere", args, a)
			}
		}
	})
}

// Values of flags are understood or refused, and say so in words.
func FuzzFlagValues(f *testing.F) {
	for _, s := range []string{"30d", "2026-11-22 14:00", "1%", "0.01", "500k", "20M", "/old=/new", `/a\=b=/c`, "", "99999999999999999999", "-1", "NaN", "1e999%", "Inf"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := parseSince(text, now, time.UTC); err == nil && at.IsZero() && !strings.HasPrefix(text, "0001") {
			t.Errorf("since %q is no time", text)
		}
		if share, err := parseShare(text); err == nil && !(share > 0 && share <= 1) {
			t.Errorf("share %q is %v", text, share)
		}
		if rate, err := parseRate(text); err == nil && (rate < 32 || rate > 1<<20) {
			t.Errorf("rate %q is %d", text, rate)
		}
		if m, err := parseMapping(text); err == nil && (!strings.HasPrefix(m.Old, "/") || !strings.HasPrefix(m.New, "/")) {
			t.Errorf("mapping %q is %+v", text, m)
		}
		if tl, err := walname.ParseTimeline(text); err == nil && tl == 0 {
			t.Errorf("timeline %q is 0", text)
		}
	})
}
