package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"walship/internal/testpg"
	"walship/transport"
)

// guarded is a server with roles of all kinds and rules that keep some out.
func guarded(t *testing.T) *testpg.Cluster {
	t.Helper()
	c := testpg.New(t, testpg.Options{})
	must(t, os.WriteFile(filepath.Join(c.Data, "pg_hba.conf"), []byte(`
		local all secret scram-sha-256
		local replication secret scram-sha-256
		local all all trust
		local replication all trust
		host all all 127.0.0.1/32 trust
	`), 0o600))
	must(t, c.Start())
	c.Query(`create role plain login; create role secret login replication password 'right#1'; create role rep login replication`)
	return c
}

func TestConnect(t *testing.T) {
	c := guarded(t)
	t.Run("defaults", func(t *testing.T) { defaults(t, c) })
	t.Run("password file", func(t *testing.T) { passwordFile(t, c) })
	t.Run("refusals", func(t *testing.T) { refusals(t, c) })
}

func refusals(t *testing.T, c *testpg.Cluster) {
	for _, name := range []string{"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE"} {
		t.Setenv(name, "")
		must(t, os.Unsetenv(name))
	}
	t.Setenv("PGPASSFILE", filepath.Join(t.TempDir(), "none"))
	socket := fmt.Sprintf("host=%s port=%d ", c.Sockets, c.Port)
	tcp := fmt.Sprintf("host=127.0.0.1 port=%d ", c.Port)
	for name, r := range map[string]struct{ conn, says, hint string }{
		"no such socket":     {fmt.Sprintf("host=%s port=1", c.Sockets), "no such socket", "PGHOST"},
		"nobody listens":     {"host=127.0.0.1 port=1", "127.0.0.1 port 1: connection refused", "does the server run"},
		"unknown host":       {"host=no.such.host.invalid", "host name no.such.host.invalid is not known", "PGHOST"},
		"unknown database":   {socket + "user=postgres dbname=nowhere", `database "nowhere" does not exist`, "dbname="},
		"unknown role":       {socket + "user=nobody", `role "nobody" does not exist`, "user nobody"},
		"no password":        {socket + "user=secret", "password authentication failed", "localhost:" + fmt.Sprint(c.Port) + ":postgres:secret:PASSWORD"},
		"wrong password":     {socket + "user=secret password=wr0ng", "password authentication failed", "PGPASSFILE"},
		"no privilege":       {socket + "user=plain", "must be superuser or replication role", "ALTER ROLE plain REPLICATION"},
		"no line in pg_hba":  {tcp + "user=rep", "no pg_hba.conf entry for replication", "host replication rep ADDRESS/32"},
		"unreadable":         {"host=127.0.0.1 password=wr0ng port", "it cannot be read", "as for psql"},
		"unreadable URI":     {"postgresql://h:wr0ng/", "invalid port", "as for psql"},
		"not understood":     {socket + "hostaddr=127.0.0.1", "hostaddr", ""},
		"a second line":      {socket + "user=postgres application_name='a\nb'", "", ""},
		"label of two lines": {socket + "user=postgres", "label", ""},
		"a wrong option":     {socket + "user=postgres dbname=postgres options='-c nonsense=1'", "nonsense", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := BackupOptions{Params: Params{ConnString: r.conn}, Fast: true}
			if strings.Contains(name, "label") {
				o.Label = "one\ntwo"
			}
			s, err := StartBackup(t.Context(), o)
			if s != nil {
				s.Close()
			}
			if r.says == "" {
				must(t, err)
				return
			}
			if !errors.Is(err, ErrServer) || !strings.Contains(err.Error(), r.says) || !strings.Contains(transport.Hint(err), r.hint) {
				t.Errorf("%v\nhint: %s", err, transport.Hint(err))
			}
			if text := err.Error() + transport.Hint(err); strings.Contains(text, "wr0ng") || strings.Contains(err.Error(), "\n") {
				t.Errorf("a password or a second line: %q", text)
			}
			t.Logf("%v\nhint: %s", err, transport.Hint(err))
		})
	}
	t.Run("no wal senders", func(t *testing.T) {
		c.SetConf(map[string]string{"max_wal_senders": "0"})
		must(t, c.Restart(testpg.Fast))
		_, err := StartBackup(t.Context(), BackupOptions{Params: params(c)})
		var said *pgconn.PgError
		if !errors.Is(err, ErrServer) || !strings.Contains(transport.Hint(err), "raise max_wal_senders") || !errors.As(err, &said) || said.Code != "53300" {
			t.Errorf("%v\nhint: %s", err, transport.Hint(err))
		}
	})
	t.Run("not enough in the WAL", func(t *testing.T) {
		c.SetConf(map[string]string{"wal_level": "minimal"})
		must(t, c.Restart(testpg.Fast))
		_, err := StartBackup(t.Context(), BackupOptions{Params: params(c), Method: Files, Fast: true})
		if !errors.Is(err, ErrServer) || !strings.Contains(transport.Hint(err), "wal_level = replica") {
			t.Errorf("%v\nhint: %s", err, transport.Hint(err))
		}
	})
}

// The password file may have a line of its own for replication, as libpq's.
func passwordFile(t *testing.T, c *testpg.Cluster) {
	file := filepath.Join(t.TempDir(), "pass")
	t.Setenv("PGPASSFILE", file)
	for _, uri := range []bool{false, true} {
		conn := fmt.Sprintf("host=%s port=%d user=secret", c.Sockets, c.Port)
		if uri {
			conn = fmt.Sprintf("postgresql://secret@:%d/?host=%s", c.Port, c.Sockets)
		}
		for _, text := range []string{
			fmt.Sprintf("localhost:%d:postgres:secret:right#1\nlocalhost:%d:replication:secret:right#1\n", c.Port, c.Port),
			fmt.Sprintf("localhost:%d:*:secret:right#1\n", c.Port),
		} {
			must(t, os.WriteFile(file, []byte(text), 0o600))
			s, err := StartBackup(t.Context(), BackupOptions{Params: Params{ConnString: conn}, Fast: true})
			if err != nil {
				t.Fatalf("%s: %v", conn, err)
			}
			must(t, s.Close())
		}
	}
}

func defaults(t *testing.T, c *testpg.Cluster) {
	t.Setenv("PGHOST", c.Sockets)
	t.Setenv("PGPORT", fmt.Sprint(c.Port))
	t.Setenv("PGUSER", "plain")
	conn, err := Connect(t.Context(), Params{})
	must(t, err)
	defer conn.Close()
	row, err := conn.Row(t.Context(), "SELECT current_user, current_database(), NULL, "+Literal(`it's \ "here"`))
	must(t, err)
	if got := strings.Join(row, "|"); got != "plain|postgres|"+Null+`|it's \ "here"` {
		t.Errorf("%q", got)
	}
	if conn.Version().String() != fmt.Sprint(c.Major) || !strings.HasPrefix(conn.ServerVersion(), fmt.Sprint(c.Major)+".") || !conn.Local() || conn.User() != "plain" {
		t.Errorf("%v %s %v %s", conn.Version(), conn.ServerVersion(), conn.Local(), conn.User())
	}
	if _, err := conn.Value(t.Context(), "SELECT 1 WHERE false"); !errors.Is(err, ErrServer) {
		t.Errorf("no row: %v", err)
	}
	if _, err := conn.Query(t.Context(), "SELECT nonsense"); !errors.Is(err, ErrServer) || !conn.Alive() {
		t.Errorf("%v", err)
	}
	if v, err := conn.Value(t.Context(), "SELECT 7"); v != "7" || err != nil {
		t.Errorf("after an error: %q, %v", v, err)
	}
}
