package pgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"walship/internal/basebackup"
	"walship/internal/testpg"
)

func TestStandby(t *testing.T) {
	primary, wal := server(t, testpg.Options{Checksums: true, Conf: map[string]string{"wal_keep_size": "256MB"}})
	fill(t, primary)
	into := primary.Base + "/standby"
	// The tablespace has to lie elsewhere on the same machine.
	space := primary.Query("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'")
	moved := testpg.Dir(t) + "/space"
	if _, err := primary.Run("pg_basebackup", "-D", into, "-X", "stream", "-c", "fast", "--no-sync", "-T", space+"="+moved); err != nil {
		t.Fatal(err)
	}
	standby := testpg.Restore(t, into)
	standby.SetConf(map[string]string{"archive_mode": "off"})
	standby.WriteRecovery(true, map[string]string{
		"primary_conninfo": primary.ConnInfo(), "restore_command": fmt.Sprintf("cp %s/%%f %%p", wal), "recovery_target_timeline": "latest"})
	must(t, standby.Start())

	for _, method := range []string{Protocol, Files} {
		t.Run(method, func(t *testing.T) {
			primary.Query("insert into t values (2); checkpoint")
			testpg.WaitFor(t, startLimit, "the standby to have the row", func() bool {
				return standby.Query("select count(*) from t") == primary.Query("select count(*) from t")
			})
			b, err := take(t, BackupOptions{Params: params(standby), Fast: true, Method: method})
			must(t, err)
			if !b.Standby || b.End.Timeline != 1 || b.Info.Timeline != 1 || b.EndLSN < b.StartLSN {
				t.Errorf("%+v\n%+v", b.Info, b.End)
			}
			primary.Archive(startLimit)
			r := b.restore(t, wal)
			if got, want := r.Query(contents), primary.Query(contents); got != want {
				t.Errorf("restored %s instead of %s", got, want)
			}
			must(t, r.Stop(testpg.Immediate))
		})
	}
	t.Run("promoted meanwhile", func(t *testing.T) {
		// Nobody reads, so the server comes no further than the socket's buffer.
		var all []basebackup.Source
		for _, method := range []string{Protocol, Files} {
			s, err := StartBackup(t.Context(), BackupOptions{Params: params(standby), Fast: true, Method: method})
			must(t, err)
			defer s.Close()
			_, err = s.Next()
			must(t, err)
			all = append(all, s)
		}
		must(t, standby.Promote())
		must(t, standby.WaitPrimary(startLimit))
		for _, s := range all {
			err := error(nil)
			for err == nil {
				_, err = s.Next()
			}
			if errors.Is(err, io.EOF) {
				_, err = s.Finish()
			}
			if !errors.Is(err, ErrServer) || !strings.Contains(err.Error(), "promoted") {
				t.Errorf("%s: %v", s.Info().Method, err)
			}
		}
	})
}

// A backup under which the timeline changes is none.
func TestTimelineChange(t *testing.T) {
	b := &common{sql: &Conn{}}
	b.info.Timeline = 1
	end := func(timeline uint32) error {
		e := taken{}.End
		e.Timeline = b.info.Timeline + 1
		if timeline == 1 {
			e.Timeline = 1
		}
		return b.sameTimeline(e)
	}
	if err := end(1); err != nil {
		t.Error(err)
	}
	if err := end(2); !errors.Is(err, ErrServer) || !strings.Contains(err.Error(), "timeline 1 to 2") {
		t.Error(err)
	}
}

func TestConfigFiles(t *testing.T) {
	c := testpg.New(t, testpg.Options{})
	etc := testpg.Dir(t)
	must(t, os.Mkdir(etc+"/conf.d", 0o700))
	for name, text := range map[string]string{
		"pg_hba.conf": "local all all trust\n", "pg_ident.conf": "# none\n",
		"conf.d/05.conf": "work_mem = '4MB'\n", "conf.d/10.conf": "work_mem = '5MB'\n  INCLUDE = 'empty.txt'\n", "conf.d/empty.txt": "# nothing is set here\n",
	} {
		must(t, os.WriteFile(etc+"/"+name, []byte(text), 0o640))
	}
	must(t, testpg.Own(etc))
	must(t, appendTo(c.Data+"/postgresql.conf", fmt.Sprintf("include_dir '%[1]s/conf.d'\nhba_file = '%[1]s/pg_hba.conf'\nident_file = '%[1]s/pg_ident.conf'\n", etc)))
	must(t, c.Start())
	c.Query("create role seer login; grant pg_read_all_settings to seer; create role plain login")

	for role, want := range map[string]string{
		"postgres": "05.conf 10.conf empty.txt pg_hba.conf pg_ident.conf", "seer": "05.conf 10.conf empty.txt pg_hba.conf pg_ident.conf", "plain": ""} {
		t.Run(role, func(t *testing.T) {
			conn, err := Connect(t.Context(), Params{ConnString: strings.Replace(params(c).ConnString, "user=postgres", "user="+role, 1)})
			must(t, err)
			defer conn.Close()
			var w warnings
			files, err := conn.ConfigFiles(t.Context(), w.add)
			must(t, err)
			var got []string
			for _, f := range files {
				disk, err := os.ReadFile(f.Path)
				must(t, err)
				if f.Mode != 0o640 || string(f.Content) != string(disk) || !strings.HasPrefix(f.Path, etc) {
					t.Errorf("%+v", f)
				}
				got = append(got, f.Path[strings.LastIndex(f.Path, "/")+1:])
			}
			if strings.Join(got, " ") != want || (w.String() != "") != (role == "plain") {
				t.Errorf("%v; warned: %s", got, w.String())
			}
		})
	}
}

func appendTo(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func TestArchiver(t *testing.T) {
	c := testpg.New(t, testpg.Options{Conf: map[string]string{"archive_mode": "on", "archive_command": "false"}})
	must(t, c.Start())
	conn, err := Connect(t.Context(), params(c))
	must(t, err)
	defer conn.Close()
	a, err := conn.Archiver(t.Context())
	must(t, err)
	if a.Mode != "on" || a.Command != "false" || a.Library != "" || a.WALLevel != "replica" || a.Standby || !a.Counted || !a.LastArchivedTime.IsZero() || a.Now.IsZero() ||
		a.CurrentWAL != c.CurrentWALFile() {
		t.Errorf("%+v", a)
	}
	name := c.SwitchWAL()
	testpg.WaitFor(t, startLimit, "a failure to be counted", func() bool {
		a, err = conn.Archiver(t.Context())
		return err != nil || a.Failed > 0
	})
	if err != nil || a.LastFailed != name || !a.LastFailedIsLatest || a.LastFailedTime.IsZero() || a.Archived != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	c.SetConf(map[string]string{"archive_command": "true"})
	must(t, c.Restart(testpg.Fast))
	must(t, conn.Close())
	conn, err = Connect(t.Context(), params(c))
	must(t, err)
	testpg.WaitFor(t, startLimit, "a success to be counted", func() bool {
		a, err = conn.Archiver(t.Context())
		return err != nil || a.Archived > 0
	})
	if err != nil || a.LastArchived < name || a.LastFailedIsLatest || a.Command != "true" {
		t.Errorf("%+v, %v", a, err)
	}
}

// The protocol leaves a tablespace inside the data directory out without a word;
// so nobody is told that it is a backup.
func TestInPlaceTablespace(t *testing.T) {
	primary, _ := server(t, testpg.Options{})
	primary.Query("set allow_in_place_tablespaces = on; create tablespace inside location ''")
	_, err := StartBackup(t.Context(), BackupOptions{Params: params(primary), Fast: true, Method: Protocol})
	if !errors.Is(err, ErrServer) || !strings.Contains(err.Error(), "tablespace inside lies inside the data directory") {
		t.Errorf("by protocol: %v", err)
	}
	s, err := StartBackup(t.Context(), BackupOptions{Params: params(primary), Fast: true, Method: Files})
	must(t, err)
	must(t, s.Close())
}
