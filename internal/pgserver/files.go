package pgserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"walship/internal/basebackup"
	"walship/internal/pgdata"
	"walship/walname"
)

// filesSource is a base backup by a walk of the data directory between
// PostgreSQL's backup functions.
type filesSource struct {
	*common
	ctx   context.Context
	mode  *mode
	data  *pgdata.Dir
	pages *verifier
	slow  *throttle

	left   []tablespace // to be walked, before the data directory
	walk   *walker      // the current one
	base   bool         // the current one is the data directory
	memory []content    // what comes after it
	ended  bool         // memory has been filled: the server has ended the backup
	end    basebackup.End

	entry  basebackup.Entry
	file   *os.File  // of the entry; nil if it has none
	held   io.Reader // of an entry in memory
	at     int64     // how much of the entry was read
	asked  time.Time // when the connection was last looked at
	closed bool
}

// content is a file that is given from memory.
type content struct {
	basebackup.Entry
	data []byte
}

func startFiles(ctx context.Context, o BackupOptions, b *common) (basebackup.Source, error) {
	d, err := b.place(ctx, o.DataDir)
	if err != nil {
		return nil, err
	}
	if b.sql.version < version96 && b.info.Standby {
		return nil, b.sql.to.fail("PostgreSQL %s gives no base backup of this kind from a standby: take it from the primary, or by the method protocol (from 9.2 on)", b.sql.version)
	}
	s := &filesSource{common: b, ctx: ctx, data: d}
	s.mode = &mode{b: b, params: o.Params, data: d.Path, exclusive: o.exclusive || b.sql.version < version96}
	if err := s.begin(ctx, o); err != nil {
		if stuck := s.mode.abandon(); stuck != nil {
			o.Warn(stuck.Error())
		}
		return nil, err
	}
	if b.verifies(o) {
		s.pages = b.newVerifier(s.rereadPage)
	}
	if o.MaxRate > 0 {
		s.slow = newThrottle(ctx, o.MaxRate)
	}
	return s, nil
}

func (s *filesSource) begin(ctx context.Context, o BackupOptions) error {
	var err error
	if s.info.StartLSN, err = s.mode.begin(ctx, o.Label, o.Fast); err != nil {
		return err
	}
	if s.left, err = s.tablespaces(ctx, s.data); err != nil {
		return err
	}
	_, _, c, err := control(s.data.Path) // the checkpoint's
	if err != nil {
		return err
	}
	s.info.Timeline = c.Timeline
	if s.mode.exclusive {
		return s.checkLabel()
	}
	return nil
}

// checkLabel compares the label with what was believed before it was known.
func (s *filesSource) checkLabel() error {
	l, err := walname.ParseBackupLabel(s.mode.label)
	if err != nil {
		return s.sql.to.fail("%v", err)
	}
	if l.Start != s.info.StartLSN || l.StartSegment.Timeline != s.info.Timeline {
		return s.sql.to.fail("its backup label begins at %s on timeline %d, the backup at %s on timeline %d",
			l.Start, l.StartSegment.Timeline, s.info.StartLSN, s.info.Timeline)
	}
	return nil
}

func (s *filesSource) Info() basebackup.Info { return s.info }

func (s *filesSource) Next() (basebackup.Entry, error) {
	if s.closed {
		return basebackup.Entry{}, errClosed
	}
	if err := s.passOver(); err != nil {
		return basebackup.Entry{}, err
	}
	for {
		if s.ctx.Err() != nil {
			return basebackup.Entry{}, context.Cause(s.ctx)
		}
		if s.ended {
			return s.nextHeld()
		}
		if err := s.alive(); err != nil {
			return basebackup.Entry{}, err
		}
		if s.walk == nil {
			if err := s.enter(); err != nil {
				return basebackup.Entry{}, err
			}
			if s.entry.Path != "" {
				return s.entry, nil
			}
		}
		e, file, err := s.walk.next()
		if errors.Is(err, io.EOF) {
			s.walk = nil
			if s.base {
				err = s.stop()
			} else {
				err = nil
			}
		}
		if err != nil {
			return basebackup.Entry{}, err
		}
		if e.Path != "" {
			s.entry, s.file, s.at = e, file, 0
			s.pages.begin(e)
			return e, nil
		}
	}
}

// alive notices within seconds that the server is gone, without which the copy
// cannot be finished.
func (s *filesSource) alive() error {
	if time.Since(s.asked) < 5*time.Second {
		return nil
	}
	err := s.sql.to.explain(s.ctx, s.sql.pg.Ping(s.ctx))
	s.asked = time.Now()
	return err
}

// enter begins with the next folder. The one of a tablespace is an entry itself.
func (s *filesSource) enter() error {
	if len(s.left) == 0 {
		s.base = true
		s.entry = basebackup.Entry{}
		s.walk = &walker{root: s.data.Path, links: s.sql.version < version95, emptied: s.statistics(), warn: s.warn}
		return s.walk.enter("")
	}
	t := s.left[0]
	s.left = s.left[1:]
	s.walk = &walker{root: t.root, tablespace: t.oid, warn: s.warn}
	info, err := os.Stat(filepath.Join(t.root, t.version))
	if errors.Is(err, os.ErrNotExist) { // dropped meanwhile
		s.entry = basebackup.Entry{}
		return nil
	}
	if err != nil {
		return localError(err)
	}
	s.entry = basebackup.Entry{Tablespace: t.oid, Path: t.version, Type: basebackup.Dir, Mode: uint32(info.Mode().Perm()), ModTime: info.ModTime().UTC()}
	s.pages.begin(s.entry)
	return s.walk.enter(t.version)
}

// statistics is where the server keeps temporary statistics up to 14, if that is
// not where it is by default.
func (s *filesSource) statistics() map[string]bool {
	rows, err := s.sql.Query(s.ctx, "SELECT setting FROM pg_settings WHERE name = 'stats_temp_directory'")
	if err != nil || len(rows) != 1 {
		return nil
	}
	dir := path.Clean(plain(rows[0][0]))
	if path.IsAbs(dir) {
		if rel, err := filepath.Rel(s.data.Path, dir); err == nil {
			dir = rel
		}
	}
	return map[string]bool{dir: true}
}

// stop ends the backup, once all but pg_control has been read.
func (s *filesSource) stop() error {
	data, info, c, err := control(s.data.Path)
	if err != nil {
		return err
	}
	s.end.Timeline = c.Timeline
	if s.info.Standby {
		if s.end.Timeline = c.MinRecoveryTimeline; c.MinRecoveryTimeline == 0 {
			s.end.Timeline = s.info.Timeline
		}
	}
	if s.end.EndLSN, err = s.mode.end(s.ctx); err != nil {
		return err
	}
	s.end.End = s.now(s.ctx)
	if err := s.checkLabel(); err != nil {
		return err
	}
	s.ended = true
	s.hold(labelFile, s.mode.label, 0o600, s.info.Begin)
	if len(s.mode.spaces) > 0 {
		s.hold(mapFile, s.mode.spaces, 0o600, s.info.Begin)
	}
	s.hold("global/pg_control", data, uint32(info.Mode().Perm()), info.ModTime().UTC())
	return nil
}

func (s *filesSource) hold(name string, data []byte, mode uint32, at time.Time) {
	s.memory = append(s.memory, content{basebackup.Entry{Path: name, Size: int64(len(data)), Mode: mode, ModTime: at}, data})
}

func (s *filesSource) nextHeld() (basebackup.Entry, error) {
	if len(s.memory) == 0 {
		s.entry, s.held = basebackup.Entry{}, nil
		return basebackup.Entry{}, io.EOF
	}
	c := s.memory[0]
	s.memory = s.memory[1:]
	s.entry, s.held, s.at = c.Entry, bytes.NewReader(c.data), 0
	s.pages.begin(s.entry)
	return s.entry, nil
}

func (s *filesSource) Read(p []byte) (int, error) {
	switch {
	case s.closed:
		return 0, errClosed
	case s.ctx.Err() != nil:
		return 0, context.Cause(s.ctx)
	case s.held != nil:
		return s.held.Read(p)
	}
	rest := s.entry.Size - s.at
	if s.file == nil || rest == 0 {
		if err := s.pages.end(); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), rest)]
	n, err := s.file.Read(p)
	if errors.Is(err, io.EOF) {
		// It has been truncated meanwhile; replay does that again.
		clear(p)
		n, err = len(p), nil
	}
	s.at += int64(n)
	if err != nil {
		return n, localError(err)
	}
	if err := s.pages.write(p[:n]); err != nil {
		return n, err
	}
	return n, s.slow.wait(n)
}

// passOver ends with the entry before, which may not have been read to its end.
func (s *filesSource) passOver() error {
	if s.file == nil {
		return nil
	}
	if !s.pages.idle() {
		if _, err := io.Copy(io.Discard, readerFunc(s.Read)); err != nil {
			return err
		}
	}
	err := s.file.Close()
	s.file = nil
	return localError(err)
}

// rereadPage reads a page of the current file again.
func (s *filesSource) rereadPage(_ basebackup.Entry, at int64, try int, page []byte) (bool, error) {
	if err := pause(s.ctx, try); err != nil {
		return false, err
	}
	n, err := s.file.ReadAt(page, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, localError(err)
	}
	clear(page[n:]) // truncated: replay does that again
	return true, nil
}

func (s *filesSource) Finish() (basebackup.End, error) {
	if s.closed {
		return basebackup.End{}, errClosed
	}
	if !s.ended || len(s.memory) > 0 {
		return basebackup.End{}, fmt.Errorf("%w: the backup is not at its end", ErrServer)
	}
	if err := s.sameTimeline(s.end); err != nil {
		return basebackup.End{}, err
	}
	return s.end, s.Close()
}

// Close ends backup mode; where the server does so itself with the session, that
// is all it takes.
func (s *filesSource) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.walk != nil {
		s.walk.close()
	}
	if s.file != nil {
		_ = s.file.Close()
	}
	err := s.mode.abandon()
	_ = s.sql.Close()
	return err
}
