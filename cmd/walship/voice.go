package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"walship/internal/pgdata"
	"walship/restore"
	"walship/transport"
)

// How walship speaks: each message is one line on standard error, begins with
// "walship: ", and ends without a period; a hint, if there is one, follows on a
// line of its own. Standard output carries results only.

type voice struct {
	out, err *os.File

	quiet bool // no progress is shown
}

// fail reports the error that ended a call.
func (v *voice) fail(c caller, code int, err error) {
	switch {
	case err == nil, errors.As(err, new(verdict)):
		return
	case errors.Is(err, restore.ErrNotThere) && c.mode != pgdata.ByHand:
		return // PostgreSQL asks for what does not exist yet all the time
	case c.command == "fetch" && code == exitNotThere && !errors.Is(err, restore.ErrNotThere):
		v.say("warning: fetch: %v", err)
		v.hint(advice(err))
		v.hint("this is doubt, not absence")
		return
	}
	if c.command == "" {
		v.say("%v", err)
	} else {
		v.say("%s: %v", c.command, err)
	}
	v.hint(advice(err))
	if c.command == "fetch" && code == exitDoubt && c.mode == pgdata.ArchiveRecovery {
		v.hint("recovery stops here so that nothing is lost; mend the cause and start the server again")
	}
}

// advice is the hint that comes with an error, or what is known to help against
// others of its class.
func advice(err error) string {
	if hint := transport.Hint(err); hint != "" {
		return hint
	}
	switch classCode(err) {
	case exitFull:
		return "free some space there: until then PostgreSQL keeps the WAL, and its own disk fills"
	case exitPermission:
		return "the account on the archive needs to be able to read and write all of the archive's folder"
	case exitDamaged:
		return "look at the archive's disk; if PostgreSQL still has the file, move the damaged one out of the way and push it again"
	}
	return ""
}

// warn reports what did not keep the call from succeeding.
func (v *voice) warn(text string) { v.say("warning: %s", text) }

func (v *voice) say(format string, args ...any) {
	text := oneLine(fmt.Sprintf(format, args...))
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	fmt.Fprintln(v.err, "walship: "+text)
}

// longest bounds a line of a message, in bytes.
const longest = 2000

func (v *voice) hint(text string) {
	if text != "" {
		v.say("hint: %s", text)
	}
}

// print writes a line of a result.
func (v *voice) print(format string, args ...any) {
	fmt.Fprintf(v.out, format+"\n", args...)
}

// oneLine makes text from anywhere, a hostile server included, fit for a log and
// a terminal: one line of characters that can be seen, without what controls the
// terminal or the direction of writing. What is no UTF-8 becomes U+FFFD.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

// plainJSON passes JSON on with everything escaped that oneLine would not let
// through: encoding/json leaves some of it as it is, and JSON is read on
// terminals too. Each Write has to be whole characters.
type plainJSON struct{ w io.Writer }

func (j plainJSON) Write(p []byte) (int, error) {
	b := make([]byte, 0, len(p))
	for _, r := range string(p) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	if _, err := j.w.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0 && f.Name() != os.DevNull && isTTY(f)
}
