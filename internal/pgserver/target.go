package pgserver

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"walship/transport"
)

// target is which server is meant, for messages.
type target struct {
	host, database, user string
	port                 uint16
	replication          bool
	password             bool // one was given
}

func targetOf(c *pgconn.Config, replication bool) target {
	return target{c.Host, c.Database, c.User, c.Port, replication, c.Password != ""}
}

// where names the server.
func (t target) where() string {
	if filepath.IsAbs(t.host) {
		return "socket " + t.socket()
	}
	return fmt.Sprintf("%s port %d", t.host, t.port)
}

func (t target) socket() string { return fmt.Sprintf("%s/.s.PGSQL.%d", t.host, t.port) }

func (t target) local() bool {
	if filepath.IsAbs(t.host) || t.host == "localhost" {
		return true
	}
	ip := net.ParseIP(t.host)
	return ip != nil && ip.IsLoopback()
}

// config is what pgconn needs, for SQL.
func (p Params) config() (*pgconn.Config, error) { return p.parse(p.ConnString, false) }

// replicationConfig is the same for the replication protocol: its password may
// stand in the password file under the database "replication".
func (p Params) replicationConfig() (*pgconn.Config, error) {
	config, err := p.parse(p.ConnString, true)
	if err != nil {
		return nil, err
	}
	config.Password = passwordFor(p.ConnString, "replication", config.Password)
	return config, nil
}

func isURI(s string) bool {
	return strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://")
}

// What libpq understands and pgconn would pass on to the server, which would
// refuse it: some of it changes nothing that matters here, some must not be
// passed over in silence.
var (
	ignored = []string{"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
		"fallback_application_name", "sslcompression", "gssdelegation", "load_balance_hosts", "gsslib", "replication"}
	unsupported = []string{"hostaddr", "requirepeer", "sslcrl", "sslcrldir", "ssl_min_protocol_version", "ssl_max_protocol_version"}
)

func (p Params) parse(conn string, replication bool) (*pgconn.Config, error) {
	c, err := pgconn.ParseConfig(conn)
	if err != nil {
		// pgconn masks what it takes for a password; in a string that it cannot read
		// that is a guess, so none of the string is shown.
		return nil, transport.WithHint(fmt.Errorf("%w: its connection string (or PGSERVICE, PGSSLMODE, …) is wrong: %s", ErrServer, parseProblem(err)),
			"it is written as for psql: \"host=db.example.com port=5432 user=backup\" or postgresql://backup@db.example.com:5432/")
	}
	for _, name := range unsupported {
		if _, ok := c.RuntimeParams[name]; ok {
			return nil, fmt.Errorf("%w: its connection string says %s, which is not supported", ErrServer, name)
		}
	}
	if mode := c.RuntimeParams["gssencmode"]; mode == "require" {
		return nil, fmt.Errorf("%w: its connection string says gssencmode=require, which is not supported", ErrServer)
	}
	delete(c.RuntimeParams, "gssencmode")
	for _, name := range ignored {
		delete(c.RuntimeParams, name)
	}
	if c.Database == "" {
		c.Database = "postgres"
		c.Password = passwordFor(conn, "postgres", c.Password)
	}
	if filepath.IsAbs(c.Host) && !namesHost(conn) {
		c.Host = socketFolder(c.Host, c.Port)
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	dialer := net.Dialer{Timeout: c.ConnectTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}}
	c.DialFunc = dialer.DialContext
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "walship"
	}
	if replication {
		c.RuntimeParams["replication"] = "true"
		c.ValidateConnect = nil // asks with SQL, which this connection does not speak
	}
	return c, nil
}

// passwordFor is the password for another database, which may have a line of its
// own in the password file.
func passwordFor(conn, database, otherwise string) string {
	if isURI(conn) {
		sign := "?"
		if strings.Contains(conn, "?") {
			sign = "&"
		}
		conn += sign + "dbname=" + database
	} else {
		conn += " dbname=" + database
	}
	if c, err := pgconn.ParseConfig(conn); err == nil && c.Password != "" {
		return c.Password
	}
	return otherwise
}

// namesHost reports whether anybody has said where the server is.
func namesHost(conn string) bool {
	if os.Getenv("PGHOST") != "" || os.Getenv("PGSERVICE") != "" || strings.Contains(conn, "service=") || strings.Contains(conn, "host") {
		return true
	}
	_, rest, _ := strings.Cut(conn, "://")
	return isURI(conn) && rest != "" && !strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "?")
}

// socketFolder is where the server's socket lies, if nobody said: the first of
// the usual folders that holds it, else the one that libpq would name.
func socketFolder(host string, port uint16) string {
	if !filepath.IsAbs(host) {
		return host
	}
	for _, dir := range []string{host, "/var/run/postgresql", "/run/postgresql", "/tmp", "/private/tmp"} {
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port))); err == nil {
			return dir
		}
	}
	return host
}
