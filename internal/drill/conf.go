package drill

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"walship/internal/pgdata"
	"walship/internal/pgrun"
)

// Port is in the name of the socket, and nowhere else.
const Port = 5432

// Conf is how the copy is to run.
type Conf struct {
	Place   *Place
	Owner   pgrun.Owner
	Version pgdata.Version
	Jobs    int  // connections of the check
	Preload bool // load the libraries that production's server preloads
}

// Libraries are those that the restored configuration preloads, "" if none.
func Libraries(settings []pgdata.Setting) string {
	set, _ := pgdata.Lookup(settings, "shared_preload_libraries")
	return strings.TrimSpace(set.Value)
}

// Write replaces the configuration in the copy, whose settings are given, by one
// of the drill's own, of which only what recovery needs is production's: nothing
// that is set for production, in files or by ALTER SYSTEM, can reach beyond the
// place or keep the copy from starting. recovery.conf stays, but for commands
// that are run beside restore_command. It may be called again.
func (c Conf) Write(settings []pgdata.Setting) error {
	data := c.Place.Data()
	files := map[string]string{
		"postgresql.conf":      c.text(settings),
		"postgresql.auto.conf": "",
		"pg_hba.conf":          "local all all trust\n", // the socket's folder keeps all others out
		"pg_ident.conf":        "",
	}
	if c.Version < 90400 {
		delete(files, "postgresql.auto.conf")
	}
	for name, text := range files {
		if err := c.replace(filepath.Join(data, name), text); err != nil {
			return err
		}
	}
	if c.Version >= 120000 {
		return nil
	}
	return c.recoveryConf(filepath.Join(data, "recovery.conf"))
}

// replace writes a file anew: what lies there may be a link that leads away.
func (c Conf) replace(path, text string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close(), c.Owner.Give(path))
}

// beside are commands that recovery runs beside restore_command, for the sake of
// what is not the drill's.
func beside(name string) bool {
	return name == "archive_cleanup_command" || name == "recovery_end_command"
}

func (c Conf) recoveryConf(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		name := strings.TrimLeft(strings.ToLower(line), " \t")
		rest := strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz_")
		if !beside(strings.TrimSuffix(name, rest)) {
			kept = append(kept, line)
		}
	}
	return c.replace(path, strings.Join(kept, ""))
}

func (c Conf) text(settings []pgdata.Setting) string {
	var b strings.Builder
	b.WriteString("# Of a drill: walship restore --check.\n")
	set := func(since pgdata.Version, name, value string) {
		if c.Version >= since {
			fmt.Fprintf(&b, "%s = %s\n", name, Quote(value))
		}
	}
	// It is reached through its socket alone.
	set(0, "listen_addresses", "")
	set(0, "port", fmt.Sprint(Port))
	set(0, pgrun.SocketSetting(c.Version), c.Place.Sockets)
	set(0, "unix_socket_permissions", "0700")
	set(0, "max_connections", fmt.Sprint(c.Jobs+10))

	// It leaves everything else alone: archive, workers of extensions, publishers.
	set(0, "archive_mode", "off")
	set(0, "autovacuum", "off")
	set(90400, "max_worker_processes", "0")
	set(100000, "max_logical_replication_workers", "0")
	set(170000, "event_triggers", "off")
	set(0, "max_wal_senders", "0")

	// Nobody needs to look at it before it opens, so it needs no more slots of any
	// kind than production had in use; these are cheap and plenty.
	set(0, "hot_standby", "off")
	set(0, "max_prepared_transactions", most(settings, "max_prepared_transactions", 100))
	set(0, "max_locks_per_transaction", most(settings, "max_locks_per_transaction", 256))
	set(90400, "max_replication_slots", "512") // so many origins of replication
	set(180000, "max_active_replication_origins", "512")

	set(0, "shared_buffers", "64MB")
	set(90400, "huge_pages", "off")
	set(90400, "dynamic_shared_memory_type", "mmap") // goes with the place, also after a kill

	// Its log is read.
	set(0, "logging_collector", "off")
	set(0, "log_destination", "stderr")
	set(0, "log_line_prefix", "%m [%p] ")
	set(0, "lc_messages", "C")
	set(0, "log_timezone", "UTC")
	set(0, "timezone", "UTC")

	if c.Version >= 120000 {
		for _, s := range settings {
			if strings.HasPrefix(s.Name, "recovery_target") || s.Name == "restore_command" {
				set(0, s.Name, s.Value)
			}
		}
		set(0, "recovery_target_action", "promote")
	}
	if libraries := Libraries(settings); c.Preload && libraries != "" {
		set(0, "shared_preload_libraries", libraries)
	}
	return b.String()
}

// most is the setting's value, and at least so many.
func most(settings []pgdata.Setting, name string, least int) string {
	s, _ := pgdata.Lookup(settings, name)
	var n int
	if _, err := fmt.Sscan(s.Value, &n); err != nil || n < least {
		n = least
	}
	return fmt.Sprint(n)
}

// Quote writes a value as a quoted one of postgresql.conf.
func Quote(value string) string {
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`, "\n", `\n`).Replace(value) + "'"
}
