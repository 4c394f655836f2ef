package pgserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/testpg"
)

// tree makes files of a data directory; a name that ends in / is a folder.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		full := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(full, 0o700))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(full), 0o700))
		must(t, os.WriteFile(full, []byte(name), 0o600))
	}
	return dir
}

func walkAll(t *testing.T, w *walker) []string {
	t.Helper()
	defer w.close()
	must(t, w.enter(""))
	var all []string
	for {
		e, file, err := w.next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if file != nil {
			file.Close()
		}
		all = append(all, e.Path+map[basebackup.Type]string{basebackup.Dir: "/", basebackup.Link: "@"}[e.Type])
	}
	slices.Sort(all)
	return all
}

func TestWalk(t *testing.T) {
	dir := tree(t, "PG_VERSION", "postgresql.conf", "postgresql.auto.conf", "postgresql.auto.conf.tmp", "postmaster.pid", "postmaster.opts",
		"backup_label", "backup_label.old", "tablespace_map", "backup_manifest", "current_logfiles", "current_logfiles.tmp",
		"base/1/1259", "base/1/1259_fsm", "base/1/t3_16384", "base/1/t3_16384_vm.1", "base/1/t3_x", "base/1/pg_internal.init", "base/pgsql_tmp/pgsql_tmp1.0",
		"base/1/backup_label", "global/pg_control", "global/1262", "global/pg_internal.init", "global/pg_internal.init.77", "global/t1_1",
		"pg_replslot/s/state", "pg_notify/0000", "pg_serial/0000", "pg_snapshots/x", "pg_subtrans/0000", "pg_stat_tmp/global.stat", "pg_dynshmem/mmap.1",
		"pg_stat/global.stat", "stats/x", "pg_xact/0000", "pg_tblspc/", "empty/", "standby.signal", "base/pg_wal/x")
	elsewhere := tree(t, "000000010000000000000001", "archive_status/000000010000000000000001.ready", "summaries/x")
	must(t, os.Symlink(elsewhere, filepath.Join(dir, "pg_wal")))
	must(t, os.Symlink("/nowhere/space", filepath.Join(dir, "pg_tblspc/16384")))
	must(t, os.Symlink("/nowhere/log", filepath.Join(dir, "log")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	must(t, err)
	defer socket.Close()

	want := strings.Fields(`PG_VERSION base/ base/1/ base/1/1259 base/1/1259_fsm base/1/backup_label base/1/t3_x base/pg_wal/ base/pg_wal/x current_logfiles
		empty/ global/ global/1262 global/t1_1 pg_dynshmem/ pg_notify/ pg_replslot/ pg_serial/ pg_snapshots/ pg_stat/ pg_stat/global.stat pg_stat_tmp/
		pg_subtrans/ pg_tblspc/ pg_wal/ pg_wal/archive_status/ pg_wal/summaries/ pg_xact/ pg_xact/0000 postgresql.auto.conf postgresql.conf standby.signal stats/`)
	var warned warnings
	w := &walker{root: dir, emptied: map[string]bool{"stats": true}, warn: warned.add}
	if got := walkAll(t, w); !slices.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	if text := warned.String(); !strings.Contains(text, "log is neither a file nor a folder (a symbolic link)") || !strings.Contains(text, "pipe") || len(warned.all) != 2 {
		t.Error(text)
	}
	w = &walker{root: dir, links: true, warn: func(string) {}}
	if got := walkAll(t, w); !slices.Contains(got, "pg_tblspc/16384@") || !slices.Contains(got, "stats/x") {
		t.Error(got)
	}

	space := tree(t, "PG_15_202209061/5/16385", "PG_15_202209061/5/t1_16385", "PG_15_202209061/pgsql_tmp/x", "PG_14_1/5/1")
	w = &walker{root: space, tablespace: 16384}
	must(t, w.enter("PG_15_202209061"))
	var got []string
	for {
		e, file, err := w.next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if file != nil {
			file.Close()
		}
		got = append(got, e.Path)
	}
	if want := []string{"PG_15_202209061/5", "PG_15_202209061/5/16385"}; !slices.Equal(got, want) {
		t.Error(got)
	}
}

// A folder is walked name by name: what one holds in memory is bounded.
func TestWalkOfALargeFolder(t *testing.T) {
	dir := t.TempDir()
	for i := range 3*namesAtOnce + 7 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
	}
	w := &walker{root: dir}
	must(t, w.enter(""))
	defer w.close()
	seen := map[string]bool{}
	for {
		e, file, err := w.next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		file.Close()
		seen[e.Path] = true
		if len(w.open) != 1 || len(w.open[0].names) >= namesAtOnce || len(w.due) > 0 {
			t.Fatalf("%d folders, %d names", len(w.open), len(w.open[0].names))
		}
	}
	if len(seen) != 3*namesAtOnce+7 {
		t.Errorf("%d files", len(seen))
	}
}

// Files change while they are read: what was announced is what is delivered.
func TestFilesChangeMeanwhile(t *testing.T) {
	dir := tree(t, "grown", "shrunk", "vanished", "removed")
	s := &filesSource{common: &common{sql: &Conn{}}, ctx: t.Context(), asked: time.Now().Add(time.Hour)}
	s.walk, s.base = &walker{root: dir}, true
	must(t, s.walk.enter(""))
	// The names are known before the first file is opened.
	first, err := s.Next()
	must(t, err)
	order := append([]string{first.Path}, s.walk.open[0].names...)
	if len(order) != 4 {
		t.Fatal(order)
	}
	must(t, os.Remove(filepath.Join(dir, order[3]))) // vanished before it was opened
	for i, change := range []func(string) error{
		func(name string) error { return os.Truncate(name, 2) },
		func(name string) error { return os.WriteFile(name, []byte(strings.Repeat("more", 100)), 0o600) },
		os.Remove,
	} {
		if i > 0 {
			e, err := s.Next()
			must(t, err)
			if e.Path != order[i] {
				t.Fatalf("%s instead of %s", e.Path, order[i])
			}
		}
		size := len(order[i]) // the content is the name
		must(t, change(filepath.Join(dir, order[i])))
		got, err := io.ReadAll(s)
		must(t, err)
		want := []string{order[i][:2] + strings.Repeat("\x00", size-2), strings.Repeat("more", 100)[:size], order[i]}[i]
		if string(got) != want || s.entry.Size != int64(size) {
			t.Errorf("%d: %q instead of %q", i, got, want)
		}
	}
	if _, _, err := s.walk.next(); !errors.Is(err, io.EOF) {
		t.Errorf("after all: %v", err)
	}
	must(t, s.passOver())
}

func TestDataDirOfAnotherServer(t *testing.T) {
	one, other := testpg.New(t, testpg.Options{}), testpg.New(t, testpg.Options{})
	must(t, one.Start())
	must(t, other.Start())
	copied := filepath.Join(one.Base, "copied")
	must(t, one.BaseBackup(copied, true))
	for dir, says := range map[string]string{
		other.Data:               "is that of cluster",
		copied:                   "is not that of the server",
		t.TempDir():              "not a PostgreSQL data directory",
		one.Data + "/../nowhere": "not a PostgreSQL data directory",
	} {
		s, err := StartBackup(t.Context(), BackupOptions{Params: params(one), Fast: true, Method: Files, DataDir: dir})
		if s != nil {
			s.Close()
		}
		if !errors.Is(err, ErrLocal) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	// The same folder by another name, as a container has it, is the server's own.
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(one.Data, link))
	s, err := StartBackup(t.Context(), BackupOptions{Params: params(one), Fast: true, Method: Files, DataDir: link})
	must(t, err)
	must(t, s.Close())
}

func TestThrottle(t *testing.T) {
	began := time.Now()
	slow := newThrottle(t.Context(), 1000)
	for range 10 {
		must(t, slow.wait(20<<10))
	}
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("200 kB at 1000 kB/s took %s", took)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := newThrottle(ctx, 1).wait(1 << 30); !errors.Is(err, why) {
		t.Error(err)
	}
	if err := (*throttle)(nil).wait(1 << 30); err != nil {
		t.Error(err)
	}
}
