package pgserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/basebackup"
	"walship/internal/testpg"
	"walship/transport"
	"walship/walname"
)

// fill makes tables, a database of its own, and a tablespace.
func fill(t testing.TB, c *testpg.Cluster) {
	t.Helper()
	space := filepath.Join(testpg.Dir(t), "space")
	must(t, os.Mkdir(space, 0o700))
	must(t, testpg.Own(space))
	c.Query(`create table t as select generate_series(1, 20000) n;
		create table empty (n int);
		create unlogged table fleeting as select 1 n;
		create tablespace space location '` + space + `';
		create table far tablespace space as select generate_series(1, 30000) n;
		create index on far (n) tablespace space;
		checkpoint`)
}

// contents is what fill has made, and what tells one state from another.
const contents = `select (select count(*) from t), (select sum(n) from far), (select count(*) from pg_class where relname like 'small%')`

// backupAndRestore takes a backup while rows are added, restores it with the WAL
// that was archived, and compares.
func backupAndRestore(t *testing.T, c *testpg.Cluster, wal string, o BackupOptions) taken {
	t.Helper()
	var w warnings
	o.Warn = w.add
	b, err := take(t, o)
	must(t, err)
	if w.String() != "" {
		t.Errorf("warned: %s", w.String())
	}
	checkShape(t, c, b)
	c.Query("insert into t values (1)")
	c.Archive(startLimit)
	b.archived(c)
	want := c.Query(contents)
	r := b.restore(t, wal)
	if got := r.Query(contents); got != want {
		t.Errorf("restored %s instead of %s", got, want)
	}
	if got := r.Query("select sum(n) from far where n > 0"); got != "450015000" {
		t.Errorf("by the index: %s", got)
	}
	must(t, r.Stop(testpg.Immediate))
	return b
}

// checkShape looks at what a backup tells of itself and holds.
func checkShape(t *testing.T, c *testpg.Cluster, b taken) {
	t.Helper()
	if b.Info.Timeline != 1 || b.End.Timeline != 1 || b.StartLSN == 0 || b.EndLSN <= b.StartLSN || b.SegmentSize != 16<<20 ||
		b.Begin.IsZero() || b.End.End.Before(b.Begin) || b.Standby || b.Info.PostgreSQL != fmt.Sprint(c.Major) || len(b.Tablespaces) != 1 || b.Size < 1<<20 {
		t.Errorf("%+v\n%+v", b.Info, b.End)
	}
	if id := c.Query("select system_identifier from pg_control_system()"); id != fmt.Sprint(b.SystemID) {
		t.Errorf("system identifier %d instead of %s", b.SystemID, id)
	}
	label, err := os.ReadFile(filepath.Join(b.dir, "0", "backup_label"))
	must(t, err)
	l, err := walname.ParseBackupLabel(label)
	if err != nil || l.Start != b.StartLSN || l.StartSegment.Timeline != b.Info.Timeline || l.Label != "walship" {
		t.Errorf("%+v, %v", l, err)
	}
	seen, spaces, last := map[string]bool{}, map[uint32]bool{}, uint32(0)
	for i, e := range b.entries {
		id := fmt.Sprint(e.Tablespace, "/", e.Path)
		if seen[id] {
			t.Errorf("%s comes twice", id)
		}
		seen[id] = true
		if e.Tablespace != last || i == 0 {
			if spaces[e.Tablespace] {
				t.Errorf("tablespace %d comes in two pieces", e.Tablespace)
			}
			spaces[e.Tablespace], last = true, e.Tablespace
		}
		if e.ServerManifest {
			continue
		}
		dir, name := path.Split(e.Path)
		for _, bad := range []string{"postmaster.pid", "postmaster.opts", "pg_internal.init"} {
			if bad == "pg_internal.init" && b.Method == Protocol && c.Major < 11 {
				continue // the server's own way
			}
			if name == bad {
				t.Errorf("%s is in the backup", id)
			}
		}
		if dir == "pg_wal/" && e.Type != basebackup.Dir || dir == "pg_replslot/" || dir == "pg_dynshmem/" {
			t.Errorf("%s is in the backup", id)
		}
		if e.Type == basebackup.Regular && e.Mode != 0o600 || e.Type == basebackup.Dir && e.Mode != 0o700 || e.ModTime.IsZero() || e.Size < 0 {
			t.Errorf("%+v", e)
		}
	}
	for _, needed := range []string{"0/PG_VERSION", "0/pg_wal", "0/global/pg_control", "0/tablespace_map", "0/base/1/PG_VERSION"} {
		if !seen[needed] {
			t.Errorf("%s is missing", needed)
		}
	}
	if len(spaces) != 2 || !spaces[b.Tablespaces[0].OID] {
		t.Errorf("%v", spaces)
	}
	tail := b.entries[len(b.entries)-1]
	if tail.ServerManifest {
		tail = b.entries[len(b.entries)-2]
	}
	if tail.Path != "global/pg_control" {
		t.Errorf("the last file is %s", tail.Path)
	}
	if want := b.Method == Protocol && c.Major >= 13; bytes.Contains(b.manifest, []byte(`"PostgreSQL-Backup-Manifest-Version"`)) != want ||
		want && !bytes.Contains(b.manifest, []byte(`"Manifest-Checksum"`)) {
		t.Errorf("manifest of %d bytes", len(b.manifest))
	}
}

// damagedPage flips a bit in a page and takes backups, which must not succeed.
func damagedPage(t *testing.T, c *testpg.Cluster, ways []BackupOptions) {
	t.Helper()
	c.Query("create table broken as select generate_series(1, 20000) n; checkpoint")
	file := c.Query("select pg_relation_filepath('broken')")
	must(t, c.Stop(testpg.Fast))
	flip(t, filepath.Join(c.Data, file), 3*8192+5000)
	must(t, c.Start())
	for _, o := range ways {
		var w warnings
		o.Params, o.Fast, o.Warn = params(c), true, w.add
		_, err := take(t, o)
		if !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "block 3") || transport.Hint(err) == "" {
			t.Errorf("%s, exclusive %t: %v", o.Method, o.exclusive, err)
		}
		t.Logf("%v", err)
		if c.Major < 15 {
			if got := c.Query("select pg_is_in_backup()"); got != "f" {
				t.Errorf("%s, exclusive %t: in backup mode: %s", o.Method, o.exclusive, got)
			}
		}
	}
}

func flip(t testing.TB, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	must(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b, at)
	must(t, err)
}

// With ten thousand tables beside the others.
func TestBackupRestores(t *testing.T) {
	c, wal := server(t, testpg.Options{Checksums: true, Conf: map[string]string{"max_locks_per_transaction": "1200"}})
	fill(t, c)
	c.Query(`do $$ begin for i in 1..10000 loop execute 'create table small' || i || ' (n int)'; end loop; end $$`)
	for _, method := range []string{Protocol, Files} {
		t.Run(method, func(t *testing.T) {
			backupAndRestore(t, c, wal, BackupOptions{Params: params(c), Fast: true, Method: method})
		})
	}
}

func TestDamagedPage(t *testing.T) {
	c, _ := server(t, testpg.Options{Checksums: true})
	damagedPage(t, c, []BackupOptions{{Method: Protocol}, {Method: Files}, {Method: Protocol, recheck: true}})
}
