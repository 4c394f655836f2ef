package pgserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"walship/internal/pgdata"
	"walship/transport"
	"walship/walname"
)

// mode is PostgreSQL's backup mode between its functions, by SQL.
type mode struct {
	b         *common
	params    Params
	data      string // data directory
	exclusive bool   // up to 9.5: it outlives the session, and the label lies in the data directory
	on        bool

	label, spaces []byte // backup_label and tablespace_map
}

const (
	labelFile = "backup_label"
	mapFile   = "tablespace_map"
)

// begin calls pg_start_backup or pg_backup_start, and returns the position from
// which recovery reads WAL.
func (m *mode) begin(ctx context.Context, label string, fast bool) (walname.LSN, error) {
	var call string
	v := m.b.sql.version
	switch {
	case v >= version15:
		call = fmt.Sprintf("pg_backup_start(%s, %t)", Literal(label), fast)
	case v >= version96:
		call = fmt.Sprintf("pg_start_backup(%s, %t, %t)", Literal(label), fast, m.exclusive)
	default:
		call = fmt.Sprintf("pg_start_backup(%s, %t)", Literal(label), fast)
	}
	before, _ := m.read(labelFile)
	m.on = true // what is not known to have failed may have been done
	text, err := m.b.sql.Value(ctx, "SELECT "+call)
	if err != nil {
		if !m.exclusive {
			return 0, err
		}
		if m.b.sql.Alive() { // the server has said no
			m.on = false
			return 0, m.already(err)
		}
		// Whether it was done shows in the label, unless it is another backup's.
		now, _ := m.read(labelFile)
		l, errLabel := walname.ParseBackupLabel(now)
		m.on = len(before) == 0 && errLabel == nil && l.Label == label
		return 0, err
	}
	lsn, err := walname.ParseLSN(text)
	if err != nil {
		return 0, m.b.sql.to.fail("%v", err)
	}
	if m.exclusive {
		return lsn, m.proof(label, lsn)
	}
	return lsn, nil
}

// proof takes the label that the server has just written. That it is there shows
// that the data directory is the server's.
func (m *mode) proof(label string, start walname.LSN) error {
	text, err := m.read(labelFile)
	if err != nil {
		return transport.WithHint(fmt.Errorf("%w: %s is not that of the server at %s: no backup label appeared in it", ErrLocal, m.data, m.b.sql.to.where()),
			"connect to the server that runs in it: PGHOST and PGPORT, or a connection string")
	}
	l, err := walname.ParseBackupLabel(text)
	if err != nil {
		return localError(err)
	}
	if l.Start != start {
		return fmt.Errorf("%w: %s is not that of the server at %s: its backup label begins at %s, the backup at %s", ErrLocal, m.data, m.b.sql.to.where(), l.Start, start)
	}
	m.label = text
	if m.b.sql.version >= version95 {
		m.spaces, _ = m.read(mapFile) // absent without tablespaces
	}
	return nil
}

func (m *mode) read(name string) ([]byte, error) { return readBounded(filepath.Join(m.data, name)) }

// already names the backup that the server is still in, if it is in one.
func (m *mode) already(err error) error {
	text, readErr := m.read(labelFile)
	if readErr != nil {
		return err
	}
	l, readErr := walname.ParseBackupLabel(text)
	if readErr != nil {
		return err
	}
	return transport.WithHint(fmt.Errorf("%w; backup_label names backup %q, begun %s", err, l.Label, l.StartTime),
		"if that backup does not run any more, end its mode with SELECT pg_stop_backup() and run this one again")
}

// end calls pg_stop_backup or pg_backup_stop and returns the position at which
// the copy is consistent. Before 10 the server first waits for its archive.
func (m *mode) end(ctx context.Context) (walname.LSN, error) {
	v := m.b.sql.version
	call, columns := "pg_stop_backup()", 1
	switch {
	case v >= version15:
		call, columns = "pg_backup_stop(false)", 3
	case v >= version10 && !m.exclusive:
		call, columns = "pg_stop_backup(false, false)", 3
	case v >= version10:
		call = "(SELECT lsn FROM pg_stop_backup(true, false)) AS s"
	case v >= version96 && !m.exclusive:
		call, columns = "pg_stop_backup(false)", 3
	}
	row, err := m.b.sql.Row(ctx, "SELECT * FROM "+call)
	if err != nil {
		return 0, err
	}
	m.on = false
	if len(row) != columns {
		return 0, m.b.sql.to.fail("it ended the backup with %d columns", len(row))
	}
	if columns == 3 {
		m.label, m.spaces = []byte(plain(row[1])), []byte(plain(row[2]))
	}
	lsn, err := walname.ParseLSN(row[0])
	if err != nil {
		return 0, m.b.sql.to.fail("%v", err)
	}
	return lsn, nil
}

// abandon ends a mode that would outlive the session. The server needs but a
// moment for it; what it then waits for is its archive.
func (m *mode) abandon() error {
	if !m.on || !m.exclusive {
		return nil
	}
	m.on = false
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sql := m.b.sql
	if !sql.Alive() {
		var err error
		if sql, err = Connect(ctx, m.params); err != nil {
			return m.stuck(err)
		}
		defer sql.Close()
	}
	_, err := sql.Query(ctx, "SELECT pg_stop_backup()")
	if _, statErr := os.Stat(filepath.Join(m.data, labelFile)); err != nil && statErr == nil {
		return m.stuck(err)
	}
	return nil
}

func (m *mode) stuck(err error) error {
	return transport.WithHint(fmt.Errorf("the server is still in backup mode: %w", err), "end it with: SELECT pg_stop_backup()")
}

// control reads pg_control whole, which the server may be writing just then.
func control(dir string) ([]byte, os.FileInfo, pgdata.Control, error) {
	name := filepath.Join(dir, "global", "pg_control")
	for try := 1; ; try++ {
		info, err := os.Stat(name)
		if err != nil {
			return nil, nil, pgdata.Control{}, localError(err)
		}
		data, err := readBounded(name)
		if err != nil {
			return nil, nil, pgdata.Control{}, localError(err)
		}
		c, err := pgdata.ParseControl(data)
		if err == nil {
			return data, info, c, nil
		}
		if try == 6 {
			return nil, nil, pgdata.Control{}, localError(fmt.Errorf("%s: %w", name, err))
		}
		time.Sleep(10 * time.Millisecond)
	}
}
