package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// limit is how long anything that must happen may take.
const limit = 2 * time.Minute

// scene is what the story's parts share.
type scene struct {
	*stage
	onPrimary        bool   // where the archive lies
	home             string // the demo's own folder, which belongs to the servers' user
	sshd             *testsshd.Server
	archive          archive
	primary, standby *machine
	rows             string // what the primary held when it was last asked
}

// tell is the story.
func tell(s *stage, onPrimary bool) {
	s.say(s.paint(bold, "walship: two PostgreSQL servers and their archive, through good days and bad"))
	d := &scene{stage: s, onPrimary: onPrimary}
	d.prepare()
	d.tell("Everything is real and runs on this machine, below %s, where each folder plays a computer. It is gone in the end, in about a minute.", d.home)
	d.archiveHost()
	d.setUpPrimary()
	d.backUp()
	d.setUpStandby()
	d.load()
	d.absence()
	d.failover()
	d.restore(d.mistake())
}

// prepare makes the folder, builds walship and makes an empty cluster.
func (d *scene) prepare() {
	d.home = d.folder()
	d.Cleanup(testbin.Clean)
	built, err := os.ReadFile(testbin.Walship(d))
	d.check(err)
	d.look()
	bin := filepath.Join(d.home, "bin")
	d.check(os.Mkdir(bin, 0o755))
	d.check(os.WriteFile(filepath.Join(bin, "walship"), built, 0o755))

	d.primary, d.standby = newMachine(d.stage, d.home, "primary"), newMachine(d.stage, d.home, "standby")
	cluster := testpg.New(d, testpg.Options{Base: d.primary.home})
	cluster.SetConf(map[string]string{"unix_socket_directories": d.home})
	d.bare(filepath.Join(cluster.Data, "postgresql.conf"))
	port := testpg.FreePort(d)
	for port == cluster.Port {
		port = testpg.FreePort(d)
	}
	d.primary.serve(cluster.Bin, cluster.Port)
	d.standby.serve(cluster.Bin, port)
	d.look()
}

// bare takes the settings away that setup shall find for itself.
func (d *scene) bare(conf string) {
	text, err := os.ReadFile(conf)
	d.check(err)
	var kept strings.Builder
	for line := range strings.Lines(string(text)) {
		if name, _, _ := strings.Cut(line, " "); !slices.Contains([]string{"wal_level", "max_wal_senders", "hot_standby"}, name) {
			kept.WriteString(line)
		}
	}
	d.check(os.WriteFile(conf, []byte(kept.String()), 0o600)) // keeps its owner
}

// folder makes the demo's own folder, with a name that can be read.
func (d *scene) folder() string {
	parent := os.TempDir()
	if os.Geteuid() == 0 {
		parent = "/tmp" // root's own may be closed to others
	}
	for n := 1; ; n++ {
		home := filepath.Join(parent, "walship-demo")
		if n > 1 {
			home += fmt.Sprintf("-%d", n)
		}
		err := os.Mkdir(home, 0o755)
		if os.IsExist(err) {
			continue // another one is at it
		}
		d.check(err)
		d.Cleanup(func() {
			sweep(home)
			if err := os.RemoveAll(home); err != nil {
				d.Logf("demo: %v", err)
			}
		})
		d.check(testpg.Own(home))
		return home
	}
}

// archiveHost starts an sshd that lets nobody in yet.
func (d *scene) archiveHost() {
	owner, err := testpg.ServerUser()
	d.check(err)
	d.sshd = testsshd.Start(d, testsshd.Options{User: owner.Name})
	d.check(os.WriteFile(d.sshd.Authorized, nil, 0o644))
	if d.onPrimary {
		d.step("The archive: a folder on the primary")
		d.archive.root = filepath.Join(d.primary.home, "wal")
		d.tell("It is best on another disk. The standby will reach it through the SSH server there, which listens on %s.", d.sshd.Addr)
		return
	}
	d.step("An archive host: nothing but an SSH server")
	d.archive.root = filepath.Join(d.home, "backup")
	d.tell("sshd listens on %s. setup ssh makes a key for the primary:", d.sshd.Addr)
	d.setUpSSH(d.primary, true)
}

// setUpSSH leads a machine to the archive, shown or not.
func (d *scene) setUpSSH(m *machine, shown bool) {
	first := fmt.Sprintf("walship setup ssh --archive %s --host-key %s", d.sshd.URL(d.archive.root), d.sshd.Fingerprint)
	second := "walship setup ssh"
	var out string
	if shown {
		m.types(m.name, first)
		out = m.quietly(9, first)
		// How to put it there in different places is a story of its own.
		before, how, _ := strings.Cut(out, "\nhow ")
		_, after, _ := strings.Cut(how, "\nwalship: ")
		m.shows(before + "[…]\nwalship: " + after)
	} else {
		out = m.quietly(9, first)
	}
	d.authorize(out)
	if shown {
		d.tell("The line is put there, and that is all that is needed on that side:")
		m.does("%s", second)
	} else {
		m.quietly(0, second)
	}
}

// authorize adds the line that setup ssh has printed on the archive host.
func (d *scene) authorize(printed string) {
	for line := range strings.Lines(printed) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "restrict,") {
			before, err := os.ReadFile(d.sshd.Authorized)
			d.check(err)
			d.check(os.WriteFile(d.sshd.Authorized, append(before, line+"\n"...), 0o644))
			return
		}
	}
	d.Fatalf("no line for authorized_keys in\n%s", printed)
}

// setUpPrimary starts the primary and makes it archive.
func (d *scene) setUpPrimary() {
	d.step("A primary that archives")
	d.tell("An empty PostgreSQL, as initdb has made it:")
	d.primary.silent("pg_ctl -D ~/data -l log -w start")
	archive := ""
	if d.onPrimary {
		archive = " --archive file://" + d.archive.root
	}
	d.primary.does("walship setup primary -D data%s --standby 127.0.0.1 --restart", archive)
}

// backUp fills the primary and takes a base backup.
func (d *scene) backUp() {
	d.step("Data, and a base backup of it beside the WAL")
	d.primary.silent("pgbench -i -q -s %d", scale)
	d.primary.does("walship backup --checkpoint fast")
}

// scale of pgbench: 100,000 accounts and some 15 MB each.
const scale = 5

// setUpStandby makes a standby of the backup.
func (d *scene) setUpStandby() {
	d.step("A standby, from the archive")
	if d.onPrimary {
		d.tell("It needs a key, with which it reaches the archive, and the password file that setup primary has made.")
	} else {
		d.tell("It needs a key of its own, by setup ssh as above, and the password file that setup primary has made.")
	}
	d.setUpSSH(d.standby, d.onPrimary)
	d.standby.silent("cp -p ../primary/pgpass .")
	d.standby.does("walship setup standby -D data --primary 127.0.0.1:%d --port %d --start", d.primary.port, d.standby.port)
	d.same(d.primary, d.standby)
	d.tell("It can be read, and only read:")
	d.standby.fails(1, "psql -c 'update pgbench_accounts set abalance = 0'")
}

// same shows that one server holds what the other does.
func (d *scene) same(first, second *machine) {
	d.rows = first.query(count)
	first.holds(d.rows)
	second.holds(d.rows)
}

// load runs pgbench and shows what arrives in the archive meanwhile.
func (d *scene) load() {
	d.step("Load: pgbench writes, WAL arrives in the archive")
	const command = "pgbench -n -c 4 -T 8"
	d.types(d.primary.name, command)
	d.shows(row("", "raw", "stored", "ratio"))
	before := len(d.archive.files(d.stage))
	result := d.primary.starts(command)
	type end struct {
		out string
		err error
	}
	finished := make(chan end, 1)
	go func() {
		defer close(finished)
		out, err := result()
		finished <- end{out, err}
	}()
	var shown []storedFile
	arrived := func() {
		for _, f := range d.archive.files(d.stage)[before+len(shown):] {
			d.shows(f.row())
			shown = append(shown, f)
		}
	}
	var report end
	d.wait(limit, "pgbench", func() bool {
		arrived()
		select {
		case report = <-finished:
			return true
		default:
			return false
		}
	})
	if report.err != nil {
		d.Fatalf("pgbench: %v\n%s", report.err, report.out)
	}
	d.primary.settles()
	arrived()
	raw, stored := total(shown)
	d.tell("%s made %s of WAL, stored as %s; the last segment was closed early. Each is an ordinary zstd file, checked and synced before PostgreSQL is told that it is archived.",
		transactions(report.out), megabytes(raw), megabytes(stored))
}

// absence kills the standby and, if it is another one, stops the archive host,
// while the primary goes on.
func (d *scene) absence() {
	if d.onPrimary {
		d.step("The standby is killed")
		d.standby.kill9()
		d.tell("The primary goes on without it, and archives:")
		d.primary.silent("pgbench -n -c 4 -t 1500")
		d.primary.settles()
		d.primary.silent("psql -qc checkpoint")
	} else {
		d.step("The standby is killed, and the archive host is down")
		d.standby.kill9()
		d.sshd.Stop()
		d.tell("The primary goes on without both:")
		d.outage()
	}
	archived := strings.Count(d.standby.log(), "restored log file")
	d.tell("The standby starts again, and comes back by itself:")
	d.standby.silent("pg_ctl -D data -l log -w start")
	d.same(d.primary, d.standby)
	d.wait(limit, "the standby to stream", func() bool {
		return d.primary.query("select count(*) from pg_stat_replication where state = 'streaming'") == "1"
	})
	if n := strings.Count(d.standby.log(), "restored log file") - archived; n > 0 {
		d.tell("It took %s from the archive, and streams on.", plural(n, "segment"))
	}
}

// outage is what the primary does while the archive host is down, and after.
func (d *scene) outage() {
	d.primary.silent("pgbench -n -c 4 -t 1000")
	d.primary.switches()
	var failed int
	d.wait(limit, "the archiver to fail", func() bool {
		var err error
		failed, err = strconv.Atoi(d.primary.query("select failed_count from pg_stat_archiver"))
		return err == nil && failed > 0 && complaint(d.primary.log()) != ""
	})
	d.tell("PostgreSQL is told the truth:")
	d.quotes(complaint(d.primary.log()))
	d.tell("It keeps what is not archived (%s) and asks again: %s so far.", plural(d.primary.waiting(), "segment"), plural(failed, "failed try"))
	began := time.Now()
	d.sshd.Restart()
	d.primary.quietly(0, "pgbench -n -c 4 -t 200")
	d.primary.settles()
	d.tell("sshd is back, and the load goes on: after %s nothing waits any more, and nothing was lost.", since(began))
}
