package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"walship/transport"
)

// links makes the links to the tablespaces, and makes the backup's own map of
// them, from which recovery makes the links again, say the same.
func (p *Plan) links(t *tree) error {
	moved := false
	var text strings.Builder
	for _, ts := range p.Tablespaces {
		if ts.To == "" {
			continue
		}
		moved = moved || ts.To != ts.From
		name := path.Join("pg_tblspc", strconv.FormatUint(uint64(ts.OID), 10))
		if err := t.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := t.link(ts.To, name); err != nil {
			return err
		}
		fmt.Fprintf(&text, "%d %s\n", ts.OID, ts.To)
	}
	_, err := t.Lstat(tablespaceMap)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !moved {
		return nil
	}
	if err != nil {
		return err
	}
	for _, ts := range p.Tablespaces {
		if strings.ContainsAny(ts.To, "\n\r\\") { // whose escapes differ between versions
			return transport.WithHint(fmt.Errorf("the path %q of a tablespace has a backslash or a line end in it", ts.To), "--tablespace-mapping OLD=NEW puts it elsewhere")
		}
	}
	return t.write(tablespaceMap, []byte(text.String()))
}

// leftovers are files that belong to the server the backup was taken from, or to
// an earlier recovery.
var leftovers = []string{"standby.signal", "recovery.signal", "recovery.conf", "recovery.done", "postmaster.pid", "postmaster.opts", "backup_label.old", "tablespace_map.old"}

// tidy removes leftovers and makes the folders for WAL.
func (p *Plan) tidy(t *tree) error {
	for _, name := range leftovers {
		if err := t.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := t.mkdirs(path.Join(p.walFolder(), "archive_status")); err != nil {
		return err
	}
	// Group access is all or nothing, from 11 on.
	info, err := t.Stat("global")
	if err != nil {
		return err
	}
	if p.Version >= 110000 && info.Mode().Perm() == 0o750 {
		return t.Chmod(".", 0o750)
	}
	return nil
}

func (p *Plan) walFolder() string {
	if p.Version < 100000 {
		return "pg_xlog"
	}
	return "pg_wal"
}
