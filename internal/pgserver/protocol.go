package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"walship/internal/basebackup"
	"walship/transport"
	"walship/walname"
)

// protocolSource is a base backup by BASE_BACKUP.
type protocolSource struct {
	*common
	stream  *stream
	entries *entries
	order   []uint32 // the tablespaces in the order in which they come, up to 14
	seen    int      // archives that have begun
	closed  bool
}

func startProtocol(ctx context.Context, o BackupOptions, b *common) (basebackup.Source, error) {
	config, err := o.replicationConfig()
	if err != nil {
		return nil, err
	}
	to := targetOf(config, true)
	pg, err := dial(ctx, config, to)
	if err != nil {
		return nil, err
	}
	if err := b.identify(ctx, pg, to); err != nil {
		_ = pg.Close(ctx)
		return nil, err
	}
	w, err := newWire(ctx, pg, to, o.Warn, baseBackup(b.sql.version, o))
	if err != nil {
		return nil, err
	}
	s := &protocolSource{common: b, stream: &stream{wire: w, tagged: b.sql.version >= version15}}
	if err := s.begin(); err != nil {
		w.close()
		return nil, err
	}
	var pages *verifier
	if b.verifies(o) {
		pages = b.newVerifier(func(e basebackup.Entry, at int64, try int, page []byte) (bool, error) {
			return b.askPage(ctx, e, at, try, page)
		})
	}
	var slow *throttle
	if o.MaxRate > 0 && b.sql.version < version94 {
		slow = newThrottle(ctx, o.MaxRate)
	}
	s.entries = &entries{stream: s.stream, pages: pages, slow: slow}
	return s, nil
}

// identify checks that the connection leads to the server that answered before,
// and learns its system identifier and, up to 9.2, its timeline.
func (b *common) identify(ctx context.Context, pg *pgconn.PgConn, to target) error {
	results, err := pg.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return to.explain(ctx, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 2 {
		return to.fail("its answer to IDENTIFY_SYSTEM is none")
	}
	row := results[0].Rows[0]
	id, err := strconv.ParseUint(string(row[0]), 10, 64)
	if err != nil || id == 0 {
		return to.fail("system identifier %q", row[0])
	}
	if b.info.SystemID != 0 && b.info.SystemID != id {
		return transport.WithHint(to.fail("replication leads to the cluster %d, SQL to %d", id, b.info.SystemID), "name one host")
	}
	b.info.SystemID = id
	if _, b.info.Timeline, err = position("0/0", string(row[1])); err != nil {
		return to.fail("%v", err)
	}
	return nil
}

// begin reads what the server says before the streams: where the backup starts,
// and the tablespaces.
func (s *protocolSource) begin() error {
	rows, err := s.stream.rows(false)
	if err != nil {
		return err
	}
	if s.info.StartLSN, s.info.Timeline, err = s.at(rows, s.info.Timeline); err != nil {
		return err
	}
	if rows, err = s.stream.rows(false); err != nil {
		return err
	}
	for _, row := range rows {
		if len(row) < 3 {
			return s.sql.to.fail("it described a tablespace in %d columns", len(row))
		}
		size := count(row[2]) * 1024
		s.info.Size += size
		if row[0] == Null {
			s.order = append(s.order, 0)
			continue
		}
		oid, err := strconv.ParseUint(row[0], 10, 32)
		if err != nil || oid == 0 {
			return s.sql.to.fail("it sent a tablespace %q", row[0])
		}
		s.order = append(s.order, uint32(oid))
		s.info.Tablespaces = append(s.info.Tablespaces, basebackup.Tablespace{OID: uint32(oid), Location: plain(row[1]), Size: size})
	}
	return nil
}

// at reads a position from a result. Up to 9.2 it tells no timeline.
func (s *protocolSource) at(rows [][]string, otherwise walname.Timeline) (walname.LSN, walname.Timeline, error) {
	if len(rows) != 1 || len(rows[0]) == 0 {
		return 0, 0, s.sql.to.fail("it sent %d rows for a position", len(rows))
	}
	timeline := ""
	if len(rows[0]) > 1 {
		timeline = rows[0][1]
	}
	l, t, err := position(rows[0][0], timeline)
	if err != nil {
		return 0, 0, s.sql.to.fail("%v", err)
	}
	if t == 0 {
		t = otherwise
	}
	return l, t, nil
}

func (s *protocolSource) Info() basebackup.Info { return s.info }

func (s *protocolSource) Next() (basebackup.Entry, error) {
	if s.closed {
		return basebackup.Entry{}, errClosed
	}
	for {
		e, err := s.entries.next()
		if !errors.Is(err, errSectionEnd) {
			return e, err
		}
		next := s.stream.next
		for next.kind == none {
			if err := s.stream.advance(); err != nil {
				return basebackup.Entry{}, err
			}
			if len(s.stream.data) > 0 {
				return basebackup.Entry{}, s.sql.to.fail("it sent data that belongs to no archive")
			}
			next = s.stream.next
		}
		if next.kind == endSection {
			if s.seen < len(s.order) {
				return basebackup.Entry{}, s.sql.to.fail("it sent %d tablespaces of %d", s.seen, len(s.order))
			}
			return basebackup.Entry{}, io.EOF
		}
		s.stream.next = section{}
		if err := s.open(next); err != nil {
			return basebackup.Entry{}, err
		}
	}
}

// open begins a section.
func (s *protocolSource) open(next section) error {
	if next.kind == archiveSection && next.name == "" && s.seen == len(s.order) {
		next.kind = manifestSection // of 13 and 14
	}
	if next.kind == manifestSection {
		s.entries.openManifest()
		return nil
	}
	var oid uint32
	if next.name == "" {
		oid = s.order[s.seen]
	} else {
		var ok bool
		if oid, ok = archiveOID(next.name); !ok {
			return s.sql.to.fail("it sent an archive of the unknown name %q", next.name)
		}
	}
	s.seen++
	s.entries.openArchive(oid)
	return nil
}

func (s *protocolSource) Read(p []byte) (int, error) {
	if s.closed {
		return 0, errClosed
	}
	return s.entries.read(p)
}

func (s *protocolSource) Finish() (basebackup.End, error) {
	if s.closed {
		return basebackup.End{}, errClosed
	}
	if s.stream.next.kind != endSection {
		return basebackup.End{}, fmt.Errorf("%w: the backup is not at its end", ErrServer)
	}
	rows, err := s.stream.rows(true)
	if err != nil {
		return basebackup.End{}, err
	}
	var end basebackup.End
	if end.EndLSN, end.Timeline, err = s.at(rows, s.info.Timeline); err != nil {
		return basebackup.End{}, err
	}
	// Only now does the server say whether all was well.
	for {
		m, err := s.stream.receive()
		if err != nil {
			return basebackup.End{}, err
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			break
		}
	}
	if err := s.sameTimeline(end); err != nil {
		return basebackup.End{}, err
	}
	end.End = s.now(s.stream.ctx)
	return end, s.Close()
}

// Close closes the connections, by which the server learns that the backup is
// over, if it was not.
func (s *protocolSource) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.stream.close()
	_ = s.sql.Close()
	return nil
}
