package pgserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// wire is a connection on which the server answers BASE_BACKUP. It reads one
// message at a time and keeps none.
type wire struct {
	ctx   context.Context
	stop  func() bool    // ends the watch over ctx
	pg    *pgconn.PgConn // of which only CancelRequest is used
	conn  net.Conn
	front *pgproto3.Frontend
	sends atomic.Bool // the server has begun to answer
	to    target
	warn  func(string)

	// silence is how long the server may say nothing; 0 is for ever. renewed is
	// when the deadline was last set.
	silence time.Duration
	renewed time.Time

	warned warned
}

// copySilence is how long a server that is sending may pause.
const copySilence = 5 * time.Minute

// newWire sends the command on a connection, which it takes over.
func newWire(ctx context.Context, pg *pgconn.PgConn, to target, warn func(string), command string) (*wire, error) {
	taken, err := pg.Hijack()
	if err != nil {
		_ = pg.Close(ctx)
		return nil, to.explain(ctx, err)
	}
	w := &wire{ctx: ctx, pg: pg, conn: taken.Conn, front: taken.Frontend, to: to, warn: warn}
	w.stop = context.AfterFunc(ctx, w.hangUp)
	w.front.Send(&pgproto3.Query{String: command})
	if err := w.front.Flush(); err != nil {
		w.close()
		return nil, to.explain(ctx, err)
	}
	return w, nil
}

func (w *wire) close() {
	if w.stop() {
		w.hangUp()
	}
}

// hangUp closes the socket, by which a server that sends learns that nobody wants
// the backup any more. One that is still busy with its checkpoint would learn it
// only then, so it is told.
func (w *wire) hangUp() {
	if !w.sends.Load() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), 2*time.Second)
		defer cancel()
		_ = w.pg.CancelRequest(ctx)
	}
	w.conn.Close()
}

// receive returns the next message that is not a notice. It is valid until the
// next call. An error of the server's ends it.
func (w *wire) receive() (pgproto3.BackendMessage, error) {
	for {
		if now := time.Now(); w.silence > 0 && now.Sub(w.renewed) > w.silence/10 {
			w.renewed = now
			w.conn.SetReadDeadline(now.Add(w.silence))
		}
		m, err := w.front.Receive()
		if err != nil {
			return nil, w.to.explain(w.ctx, err)
		}
		switch m := m.(type) {
		case *pgproto3.NoticeResponse:
			if notice(w.warn, m.Severity, m.SeverityUnlocalized, m.Message) {
				w.warned.add(strings.ToValidUTF8(m.Message, "?"))
			}
		case *pgproto3.ParameterStatus:
		case *pgproto3.ErrorResponse:
			if w.ctx.Err() != nil {
				return nil, context.Cause(w.ctx) // the answer to hangUp
			}
			return nil, w.failed(pgconn.ErrorResponseToPgError(m))
		default:
			w.sends.Store(true)
			return m, nil
		}
	}
}

// notice passes on what a person should know.
func notice(warn func(string), severity, unlocalized, text string) (warning bool) {
	if unlocalized != "" { // from 9.6 on
		severity = unlocalized
	}
	if severity == "LOG" || severity == "INFO" || strings.HasPrefix(severity, "DEBUG") {
		return false
	}
	warn("the server says: " + strings.ToValidUTF8(text, "?"))
	return severity != "NOTICE"
}

// dataCorrupted is SQLSTATE's name for it.
const dataCorrupted = "XX001"

func (w *wire) failed(said *pgconn.PgError) error {
	if said.Code == dataCorrupted {
		return damage(w.warned.text(said))
	}
	return w.to.refused(said)
}

// section is what a part of the stream holds.
type section struct {
	kind sectionKind
	name string // of an archive, from 15; else ""
}

type sectionKind uint8

const (
	none sectionKind = iota
	archiveSection
	manifestSection
	endSection // the rows after the last of the streams
)

// stream cuts what follows the two headers of BASE_BACKUP into sections.
type stream struct {
	*wire
	tagged bool // from 15: one CopyOut, whose messages begin with a letter
	next   section
	data   []byte // not yet read, of the current section
}

// advance reads one message: data, the beginning of a section, or neither.
func (s *stream) advance() error {
	m, err := s.receive()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *pgproto3.CopyData:
		if !s.tagged {
			s.data = m.Data
			return nil
		}
		return s.untag(m.Data)
	case *pgproto3.CopyOutResponse:
		if s.silence = copySilence; !s.tagged {
			s.next = section{kind: archiveSection}
		}
	case *pgproto3.CopyDone:
	case *pgproto3.RowDescription:
		s.next = section{kind: endSection}
	default:
		return s.to.fail("it sent an unexpected %T within a base backup", m)
	}
	return nil
}

// untag reads a message of the CopyOut of 15 and later.
func (s *stream) untag(data []byte) error {
	if len(data) == 0 {
		return s.to.fail("it sent an empty message within a base backup")
	}
	tag, rest := data[0], data[1:]
	switch tag {
	case 'd':
		s.data = rest
	case 'n':
		name, _, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return s.to.fail("it sent an archive without a name")
		}
		s.next = section{archiveSection, string(name)}
	case 'm':
		s.next = section{kind: manifestSection}
	case 'p':
		if len(rest) != 8 || int64(binary.BigEndian.Uint64(rest)) < 0 {
			return s.to.fail("it sent a report on its progress of %d bytes", len(rest))
		}
	default:
		return s.to.fail("it sent a message of an unknown kind, %q, within a base backup", tag)
	}
	return nil
}

// rows reads the rows of a result, whose description has been read if described,
// and its end.
func (w *wire) rows(described bool) ([][]string, error) {
	var rows [][]string
	for {
		m, err := w.receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
			if described {
				return nil, w.to.fail("it sent two results where one belongs")
			}
			described = true
		case *pgproto3.DataRow:
			row := make([]string, len(m.Values))
			for i, v := range m.Values {
				if row[i] = string(v); v == nil {
					row[i] = Null
				}
			}
			if rows = append(rows, row); len(rows) > maxTablespaces {
				return nil, w.to.fail("it sent more than %d rows", maxTablespaces)
			}
		case *pgproto3.CommandComplete:
			return rows, nil
		default:
			return nil, w.to.fail("it sent an unexpected %T before a base backup", m)
		}
	}
}

// maxTablespaces bounds what is kept of a server's answer.
const maxTablespaces = 100000

// archiveOID is the tablespace that an archive's name tells: 0 for base.tar.
func archiveOID(name string) (uint32, bool) {
	if name == "base.tar" {
		return 0, true
	}
	digits, ok := strings.CutSuffix(name, ".tar")
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && n > 0
}
