package archive

import (
	"fmt"

	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// form is how an archive's files are stored.
type form struct {
	codec stored.Codec
	to    *crypt.Recipients // nil: they are not encrypted
}

func (f form) same(other form) bool { return f.codec == other.codec && f.to.Same(other.to) }

// formOf is how the archive of that identity wants its files stored. pinned, if
// not nil, are the only recipients there may be; where the archive names others,
// or none, the error wraps ErrArchive. So who can write to the archive cannot make
// a server that has them in its own configuration encrypt to someone else.
func formOf(id layout.Identity, pinned *crypt.Recipients) (form, error) {
	to, err := crypt.ParseRecipients(id.RecipientList())
	if err != nil {
		return form{}, transport.WithHint(fmt.Errorf("%w: its walship.json: %w", ErrArchive, err), layout.IdentityHint)
	}
	switch {
	case pinned == nil:
	case to == nil:
		return form{}, transport.WithHint(fmt.Errorf("%w: its files are not encrypted, and the setting recipients demands that they are", ErrArchive),
			"walship init --recipient … makes it encrypt what comes from now on; was it you who left that out?")
	default:
		if others := to.Beyond(pinned); len(others) > 0 {
			return form{}, transport.WithHint(fmt.Errorf("%w: it wants files encrypted to %s, whom the setting recipients does not name", ErrArchive, crypt.Short(others[0])),
				"who has changed its walship.json? a new recipient of yours belongs into the setting first, and then into the archive: walship init --recipient …")
		}
	}
	return form{stored.Of(id.Codec, to != nil), to}, nil
}

// guess is the form that the configuration tells of.
func (p *Pusher) guess() form {
	return form{stored.Of(string(p.Codec), p.Recipients != nil), p.Recipients}
}

// told is what the header of an encrypted file tells of its content: of a history
// where the timelines fork, without the reasons, and of a backup label which WAL
// the backup needs, without its text. Other files tell nothing, and neither does
// what cannot be read.
func told(kind walname.Kind, timeline walname.Timeline, content []byte) (text []byte) {
	switch kind {
	case walname.KindHistory:
		h, err := walname.ParseHistory(timeline, content)
		if err != nil {
			return nil
		}
		for _, a := range h.Ancestors {
			if a.Exact() {
				text = fmt.Appendf(text, "%d\t%s\t\n", a.Timeline, a.Switch)
			} else {
				text = fmt.Appendf(text, "%d\t%s\t\n", a.Timeline, a.SwitchSegment)
			}
		}
	case walname.KindBackup:
		l, err := walname.ParseBackupLabel(content)
		if err != nil {
			return nil
		}
		text = fmt.Appendf(text, "START WAL LOCATION: %s (file %s)\n", l.Start, l.StartSegment)
		if l.StopSegment != (walname.Segment{}) {
			text = fmt.Appendf(text, "STOP WAL LOCATION: %s (file %s)\n", l.Stop, l.StopSegment)
		}
		text = fmt.Appendf(text, "CHECKPOINT LOCATION: %s\n", l.Checkpoint)
	}
	return text
}
