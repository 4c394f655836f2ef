package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/testpg"
	"walship/walname"
)

// A backup under load over SFTP, with tablespaces and 10,000 small tables, is
// unpacked with zstd and tar alone, passes the server's own check, and recovers
// every row.
func TestBackupAndByHand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{Checksums: true, Conf: map[string]string{"max_locks_per_transaction": "1000"}})
	space := filepath.Join(testpg.Dir(t), "space")
	must(t, os.Mkdir(space, 0o700))
	must(t, testpg.Own(space))
	primary.Query(`do $$begin for i in 1..10000 loop execute 'create table small_' || i || ' (n int)'; end loop; end$$`)
	primary.Query(`create tablespace space location '` + space + `';
		create table far tablespace space as select generate_series(1, 300000) n`)
	if out, err := primary.Pgbench("-i", "-q", "-s", "3"); err != nil {
		t.Fatal(out, err)
	}
	load := make(chan error, 1)
	go func() {
		_, err := primary.Pgbench("-n", "-c", "2", "-T", "3")
		load <- err
	}()
	began := time.Now()
	id := s.backup(primary, "--label", "a test's")
	took := time.Since(began)
	must(t, <-load)
	insert(primary)
	want, err := contents(primary)
	must(t, err)
	primary.Archive(soon)

	m := s.backupManifest(id)
	if m.Label != "a test's" || m.Method != "protocol" || m.Standby || !m.Checksums || m.PostgreSQL != "15" || m.Begin.Before(began.Add(-time.Second)) ||
		len(m.Tablespaces) != 1 || m.Tablespaces[0].Location != space || m.Files < 10000 || m.EndLSN <= m.StartLSN {
		t.Errorf("%+v", m)
	}
	t.Logf("%d files, %d MB in %s", m.Files, m.Size>>20, took)
	data := s.unpackByHand(id)
	recovered := testpg.Restore(t, data)
	if _, err := recovered.Run("pg_verifybackup", "-n", "-q", "-i", "tablespace_map", data); err != nil {
		t.Error(err)
	}
	recovered.WriteRecovery(false, s.recovering())
	recovered.SetConf(map[string]string{"archive_mode": "off"})
	must(t, recovered.Start())
	must(t, recovered.WaitPrimary(soon))
	waitContents(t, recovered, want)
	if got := recovered.Query("select count(*), (select sum(n) from far) from pg_class where relname like 'small_%'"); got != "10000|45000150000" {
		t.Error(got)
	}
	if got := recovered.Query("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'"); got == space {
		t.Errorf("the tablespace is in its old place, %s", got)
	}
	restoresLikewise(t, s, space, want)
}

// Both methods, under load.
func TestBackupMethods(t *testing.T) {
	t.Parallel()
	backupMethods(t, testpg.Options{SegmentMB: 1})
}

func backupMethods(t *testing.T, o testpg.Options) {
	s := newSite(t)
	primary := newPrimary(t, s, o)
	for _, method := range []string{"protocol", "files"} {
		if out, err := primary.Pgbench("-i", "-q"); err != nil {
			t.Fatal(out, err)
		}
		load := make(chan error, 1)
		go func() {
			_, err := primary.Pgbench("-n", "-c", "2", "-T", "1")
			load <- err
		}()
		id := s.backup(primary, "--method", method)
		must(t, <-load)
		insert(primary)
		want, err := contents(primary)
		must(t, err)
		primary.Archive(soon)
		m := s.backupManifest(id)
		if m.Method != method || m.PostgreSQL != fmt.Sprint(primary.Major) || (m.ServerManifest != nil) != (method == "protocol" && primary.Major >= 13) {
			t.Errorf("%s: %+v", method, m)
		}
		recovered := testpg.Restore(t, s.unpackByHand(id))
		recovered.WriteRecovery(false, s.recovering())
		recovered.SetConf(map[string]string{"archive_mode": "off"})
		must(t, recovered.Start())
		must(t, recovered.WaitPrimary(soon))
		waitContents(t, recovered, want)
		must(t, recovered.Stop(testpg.Immediate))
	}
}

// The result as JSON, with nothing else on standard output, and what a quiet call says.
func TestBackupResult(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{SegmentMB: 1})
	r := s.walship(primary, "backup", "--checkpoint", "fast", "--json", "-q", "-d", fmt.Sprintf("host=%s port=%d", primary.Sockets, primary.Port), "--max-rate", "1024M")
	if r.code != 0 || r.stderr != "" {
		t.Fatal(r)
	}
	var out struct {
		Backup     string           `json:"backup"`
		SystemID   uint64           `json:"system_identifier,string"`
		PostgreSQL string           `json:"postgresql"`
		Method     string           `json:"method"`
		Standby    bool             `json:"from_standby"`
		Label      string           `json:"label"`
		Begin, End time.Time        `json:"-"`
		BeginText  string           `json:"begin"`
		EndText    string           `json:"end"`
		Seconds    float64          `json:"seconds"`
		Timeline   walname.Timeline `json:"timeline"`
		StartLSN   string           `json:"start_lsn"`
		EndLSN     string           `json:"end_lsn"`
		FirstWAL   string           `json:"first_segment"`
		LastWAL    string           `json:"last_segment"`
		Files      int64            `json:"files"`
		Size       int64            `json:"size"`
		StoredSize int64            `json:"stored_size"`
	}
	decode(t, r.stdout, &out)
	m := s.backupManifest(out.Backup)
	if out.SystemID != m.SystemID || out.Files != m.Files || out.Size != m.Size || out.StoredSize != m.StoredSize || out.Seconds <= 0 ||
		out.FirstWAL != m.ID().Start.String() || out.LastWAL < out.FirstWAL || out.StartLSN != m.StartLSN.String() || out.Label != "walship" {
		t.Errorf("%+v\n%+v", out, m)
	}
	s.stored(out.LastWAL)
	var size int64
	files, err := os.ReadDir(s.backupFolder(out.Backup))
	must(t, err)
	for _, f := range files {
		info, err := f.Info()
		must(t, err)
		if f.Name() != basebackup.ManifestFile {
			size += info.Size()
		}
	}
	if size != out.StoredSize {
		t.Errorf("stored are %d bytes, it says %d", size, out.StoredSize)
	}

	r = s.walship(primary, "backup", "--checkpoint", "fast")
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.code != 0 || len(lines) != 3 || len(s.backups()) != 2 || !strings.HasPrefix(lines[0], s.backups()[1]) {
		t.Error(r)
	}
	for _, line := range lines {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

// From a standby. Nothing ends a segment there, which the call says; once the
// primary does, the backup is there.
func TestBackupOfAStandby(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{})
	standby := follow(t, s, backup(t, primary, false), primary)
	insert(primary)
	primary.Query("checkpoint")
	want, err := contents(primary)
	must(t, err)
	waitContents(t, standby, want)
	standby.Query("checkpoint") // it must read on to here
	call := s.beginBackup(standby, "")
	call.says("on the primary, SELECT pg_switch_wal()")
	if got := s.backups(); len(got) > 0 {
		t.Errorf("%q is there before its WAL", got)
	}
	last := primary.Archive(soon)
	if code := call.wait(); code != 0 || !strings.Contains(call.text(), "waiting for "+last) {
		t.Fatal(code, call.text())
	}
	id := s.backups()[0]
	if m := s.backupManifest(id); !m.Standby {
		t.Errorf("%+v", m)
	}
	recovered := testpg.Restore(t, s.unpackByHand(id))
	recovered.WriteRecovery(false, s.recovering())
	recovered.SetConf(map[string]string{"archive_mode": "off"})
	must(t, recovered.Start())
	must(t, recovered.WaitPrimary(soon))
	waitContents(t, recovered, want)
}
