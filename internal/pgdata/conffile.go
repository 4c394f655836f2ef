package pgdata

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// EtcPostgreSQL is where Debian keeps the configuration of its clusters.
const EtcPostgreSQL = "/etc/postgresql"

// DebianCluster is a cluster whose configuration lies apart from its data, as
// Debian has it: <etc>/<version>/<name>/postgresql.conf.
type DebianCluster struct {
	Version string // "15"
	Name    string // "main"
	Conf    string // its postgresql.conf
	Data    string // its data directory
}

// DebianClusters lists the clusters below etc. What cannot be read, or does not
// say where its data is, is passed over.
func DebianClusters(etc string) []DebianCluster {
	found, _ := filepath.Glob(filepath.Join(etc, "*", "*", "postgresql.conf")) // the pattern is well formed
	var all []DebianCluster
	for _, conf := range found {
		settings, err := ReadConf(conf)
		if err != nil {
			continue
		}
		set, ok := Lookup(settings, "data_directory")
		if !ok || !filepath.IsAbs(set.Value) {
			continue
		}
		name := filepath.Dir(conf)
		all = append(all, DebianCluster{
			Version: filepath.Base(filepath.Dir(name)), Name: filepath.Base(name), Conf: conf, Data: filepath.Clean(set.Value),
		})
	}
	return all
}

// DebianCluster returns the one whose data directory d is.
func (d *Dir) DebianCluster(etc string) (DebianCluster, bool) {
	for _, c := range DebianClusters(etc) {
		if samePath(c.Data, d.Path) && c.Version == d.Version.String() {
			return c, true
		}
	}
	return DebianCluster{}, false
}

func samePath(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// ConfigFile returns the path of the server's postgresql.conf: where its last
// command line says that it is, else in the data directory, else Debian's below
// etc. It need not exist.
func (d *Dir) ConfigFile(etc string) (string, error) {
	line, err := d.commandLine()
	if err != nil {
		return "", err
	}
	path := d.confPath(line)
	if _, err := os.Stat(path); err != nil {
		if c, ok := d.DebianCluster(etc); ok {
			return c.Conf, nil
		}
	}
	return path, nil
}

// SettingsFrom is Settings for a server whose postgresql.conf is at conf.
func (d *Dir) SettingsFrom(conf string) ([]Setting, error) {
	line, err := d.commandLine()
	if err != nil {
		return nil, err
	}
	settings, err := ReadConf(conf)
	if err != nil {
		return nil, err
	}
	if d.Version >= version94 && exists(d.Path, "postgresql.auto.conf") {
		auto, err := ReadConf(filepath.Join(d.Path, "postgresql.auto.conf"))
		if err != nil {
			return nil, err
		}
		settings = append(settings, auto...)
	}
	return append(settings, line.settings...), nil
}

// Postmaster is what a running server says of itself in postmaster.pid.
type Postmaster struct {
	PID    int
	Port   string // "" before 9.1
	Socket string // folder of its socket, "" if it has none, and before 9.1
	Listen string // first address that it listens on, "" if none, and before 9.1
}

// Postmaster reads postmaster.pid. The error wraps fs.ErrNotExist if there is
// none; one that is there may have been left by a crash.
func (d *Dir) Postmaster() (Postmaster, error) {
	text, err := read(filepath.Join(d.Path, "postmaster.pid"))
	if err != nil {
		return Postmaster{}, err
	}
	field := strings.Split(string(text), "\n")
	var p Postmaster
	if p.PID, err = strconv.Atoi(strings.TrimSpace(field[0])); err != nil {
		return Postmaster{}, fmt.Errorf("%s: no process in its first line", filepath.Join(d.Path, "postmaster.pid"))
	}
	if len(field) > 5 { // pid, folder, start, port, socket, address
		p.Port, p.Socket, p.Listen = strings.TrimSpace(field[3]), strings.TrimSpace(field[4]), strings.TrimSpace(field[5])
	}
	return p, nil
}
