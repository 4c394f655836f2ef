package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testpg"
)

// backupSteps are those at which a backup is stopped and killed, in order.
var backupSteps = []string{"backup.begin", "backup.started", "put.created", "put.written", "put.published", "put.folder-synced",
	"backup.part-put", "backup.list-put", "backup.copied", "backup.ended", "backup.wal", "backup.published"}

// localPrimary archives into a local folder, which makes for quick tests.
func localPrimary(t *testing.T) (*site, *testpg.Cluster) {
	t.Helper()
	s := &site{t: t, home: testpg.Dir(t), root: filepath.Join(testpg.Dir(t), "archive")}
	s.binary = newBinary(t)
	s.writeConfig("archive = \"file://" + s.root + "\"\n")
	return s, newPrimary(t, s, testpg.Options{SegmentMB: 1})
}

// kill -9 at every step leaves no backup mode and nothing that looks like a
// backup; the next backup succeeds, and clears away what is a day old.
func TestBackupKilled(t *testing.T) {
	t.Parallel()
	s, primary := localPrimary(t)
	for _, step := range backupSteps {
		before := len(s.backups())
		call := s.beginBackup(primary, step+"=kill")
		if code := call.wait(); code != -1 {
			t.Fatalf("%s: code %d instead of death by the signal: %s", step, code, call.text())
		}
		noBackupMode(t, primary)
		if there := len(s.backups()) > before; there != (step == "backup.published") {
			t.Errorf("%s: there is a backup: %v", step, there)
		}
	}
	left := s.unfinished()
	if len(left) < len(backupSteps)-5 {
		t.Fatalf("left are %q", left)
	}
	// One that may still be at work is left alone.
	old := time.Now().Add(-25 * time.Hour)
	for _, folder := range left[1:] {
		files, err := filepath.Glob(filepath.Join(folder, "*"))
		must(t, err)
		for _, name := range append(files, folder) {
			must(t, os.Chtimes(name, old, old))
		}
	}
	id := s.backup(primary)
	if now := s.unfinished(); len(now) != 1 || now[0] != left[0] {
		t.Errorf("left are %q, it should be %s", now, left[0])
	}
	s.unpackByHand(id)
	recoversFrom(t, s, id)
}

// recoversFrom fails unless a server recovers from the backup.
func recoversFrom(t *testing.T, s *site, id string) {
	t.Helper()
	recovered := testpg.Restore(t, s.unpackByHand(id))
	recovered.WriteRecovery(false, s.recovering())
	recovered.SetConf(map[string]string{"archive_mode": "off"})
	must(t, recovered.Start())
	must(t, recovered.WaitPrimary(soon))
	recovered.Query("select count(*) from rows")
	must(t, recovered.Stop(testpg.Immediate))
}

// Ctrl-C and SIGTERM, while it copies and while it waits for WAL: what was stored
// is gone, and the server's backup mode.
func TestBackupInterrupted(t *testing.T) {
	t.Parallel()
	s, primary := localPrimary(t)
	primary.SetConf(map[string]string{"archive_command": "false"})
	must(t, primary.Reload())
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, step := range []string{"backup.started", "put.created", "backup.part-put", "backup.ended"} {
			call := s.beginBackup(primary, step+"=stop")
			call.stopped()
			began := time.Now()
			if code := call.goOn(signal, syscall.SIGCONT); code != 15 || !strings.Contains(call.text(), "ended by signal") {
				t.Errorf("%s, %s: code %d: %s", signal, step, code, call.text())
			}
			t.Logf("%s, %s: gone after %s", signal, step, time.Since(began))
			if left := s.unfinished(); len(left) > 0 || len(s.backups()) > 0 {
				t.Errorf("%s, %s: left are %q: %s", signal, step, left, call.text())
			}
			noBackupMode(t, primary)
		}
	}
}

// The server dies under the backup.
func TestBackupServerKilled(t *testing.T) {
	t.Parallel()
	s, primary := localPrimary(t)
	for _, step := range []string{"backup.started", "put.created"} {
		call := s.beginBackup(primary, step+"=stop")
		call.stopped()
		must(t, primary.Kill9())
		if code := call.goOn(); code != 17 || !strings.Contains(call.text(), "the database server") {
			t.Errorf("%s: code %d: %s", step, code, call.text())
		}
		if left := s.unfinished(); len(left) > 0 || len(s.backups()) > 0 {
			t.Errorf("%s: left are %q: %s", step, left, call.text())
		}
		must(t, primary.Start())
	}
	s.backup(primary)
}

// The archive host's sshd dies under the backup: for a moment, and for good.
func TestBackupArchiveKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{SegmentMB: 1})
	proxy := testnet.New(t, s.sshd.Addr)
	s = s.by(proxy) // the archiver, which pauses for a minute after an outage, has its own way
	for _, step := range []string{"put.written", "backup.part-put"} {
		for _, forGood := range []bool{false, true} {
			if forGood && step == "backup.part-put" {
				continue // what is small is tried again for a minute
			}
			before := len(s.backups())
			what := fmt.Sprintf("%s, for good %v", step, forGood)
			call := s.beginBackup(primary, step+"=stop")
			call.stopped()
			if forGood {
				must(t, proxy.Refuse(true))
				proxy.Reset()
			} else {
				s.sshd.KillSessions()
			}
			code := call.goOn()
			// Between two parts a new connection serves as well.
			if well := code == 0 && step == "backup.part-put" && !forGood; !well && (code != 8 || !strings.Contains(call.text(), "unreachable")) {
				t.Errorf("%s: code %d: %s", what, code, call.text())
			}
			if there := len(s.backups()) > before; there != (code == 0) {
				t.Errorf("%s: code %d, there is a backup: %v", what, code, there)
			}
			left := s.unfinished()
			if said := strings.Contains(call.text(), "of the unfinished backup are left"); forGood && len(left) > 0 && !said || !forGood && len(left) > 0 {
				t.Errorf("%s: left are %q: %s", what, left, call.text())
			}
			must(t, proxy.Refuse(false))
			for _, folder := range left {
				must(t, os.RemoveAll(folder))
			}
			noBackupMode(t, primary)
		}
	}
	recoversFrom(t, s, s.backup(primary))
}

// After the copy the archive may be away for a while: a backup of hours is not
// lost for that.
func TestBackupOutlivesAnOutageAtItsEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{SegmentMB: 1})
	// Its WAL is held back until the archive has been away.
	gate := filepath.Join(primary.Base, "gate")
	primary.Query("alter system set archive_command = 'test -e " + gate + " && " + primary.Query("show archive_command") + "'")
	primary.Query("select pg_reload_conf()")
	proxy := testnet.New(t, s.sshd.Addr)
	s = s.by(proxy)
	call := s.beginBackup(primary, "backup.list-put=stop") // all parts are stored
	call.stopped()
	must(t, proxy.Refuse(true))
	proxy.Reset()
	must(t, call.cmd.Process.Signal(syscall.SIGCONT))
	call.says("could not be asked")
	must(t, proxy.Refuse(false))
	must(t, os.WriteFile(gate, nil, 0o644))
	if code := call.wait(); code != 0 || len(s.backups()) != 1 {
		t.Errorf("code %d: %s", code, call.text())
	}
}
