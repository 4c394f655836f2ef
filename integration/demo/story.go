package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
	home    string // the demo's own folder, which belongs to the servers' user
	walship string // the binary
	config  string // walship.toml
	host    *testsshd.Server
	archive archive
	primary *testpg.Cluster
	rows    string // what the primary held in the end
}

// tell is the story.
func tell(s *stage) {
	s.say(s.paint(bold, "walship: WAL from a real PostgreSQL to a real SFTP server, and back"))
	s.tell("Everything runs on this machine, below /tmp, and is gone in the end. It takes about a minute.")
	d := &scene{stage: s}
	d.prepare()
	d.archiveHost()
	d.newPrimary()
	d.load()
	d.outage()
	d.loss()
	d.recovery()
}

// prepare builds walship and finds PostgreSQL.
func (d *scene) prepare() {
	d.Cleanup(testbin.Clean)
	d.walship = testbin.Walship(d)
	d.home = testpg.Dir(d)
	d.look()
}

// archiveHost starts an sshd and writes the configuration that leads to it.
func (d *scene) archiveHost() {
	owner, err := testpg.ServerUser()
	d.check(err)
	d.step("An archive host: nothing but an SSH server")
	d.host = testsshd.Start(d, testsshd.Options{User: owner.Name})
	d.archive.root = filepath.Join(d.home, "wal")
	key, err := os.ReadFile(d.host.KeyFile)
	d.check(err)
	file := func(name, content string) string {
		path := filepath.Join(d.home, name)
		d.check(os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	keyFile := file("id_ed25519", string(key))
	line := d.host.KnownHostsLine(d.host.HostKeys[0])
	hosts := file("known_hosts", line)
	text := fmt.Sprintf("archive = %q\nssh_key = %q\nknown_hosts = %q\n", d.host.URL(d.archive.root), keyFile, hosts)
	d.config = file("walship.toml", text)
	d.check(testpg.Own(d.home))
	d.tell("sshd listens on %s and lets %s in with one key. walship needs three lines:", d.host.Addr, d.host.User)
	d.types("cat walship.toml")
	d.shows(text)
}

// newPrimary makes a cluster that archives through walship, and a base backup.
func (d *scene) newPrimary() {
	d.step("A primary that archives")
	d.primary = testpg.New(d, testpg.Options{})
	d.look()
	d.tell("PostgreSQL %d, empty, in %s. One command makes its archive:", d.primary.Major, d.primary.Data)
	d.types("walship init -D %s", d.primary.Data)
	d.shows(d.run(d.primary.Command(d.walship, "--config", d.config, "init", "-D", d.primary.Data)))
	d.tell("and two lines in postgresql.conf turn archiving on:")
	d.shows("archive_mode    = on\narchive_command = 'walship push %p %f'")
	d.primary.SetConf(map[string]string{"archive_mode": "on", "archive_command": d.command("push %p %f")})
	d.launch(d.primary)

	d.tell("pgbench fills it. Then a base backup, which goes into the archive, beside the WAL:")
	d.types("pgbench -i -s 5")
	d.run(d.primary.Command("pgbench", "-i", "-q", "-s", "5"))
	d.types("walship backup")
	d.shows(d.run(d.primary.Command(d.walship, "--config", d.config, "backup", "--checkpoint", "fast")))
}

// command is a walship command line for the server's configuration.
func (d *scene) command(args string) string {
	return d.walship + " --config " + d.config + " " + args
}

// load runs pgbench and shows what arrives in the archive meanwhile.
func (d *scene) load() {
	d.step("Load: pgbench writes, WAL arrives in the archive")
	d.types("pgbench -c 4 -T 8")
	d.shows(row("", "raw", "stored", "ratio"))
	before := len(d.archive.files(d))
	result := d.start(d.primary.Command("pgbench", "-n", "-c", "4", "-T", "8"))
	finished := make(chan string, 1)
	go func() { defer close(finished); finished <- result() }()
	var report string
	var shown []storedFile
	arrived := func() {
		for _, f := range d.archive.files(d)[before+len(shown):] {
			d.shows(f.row())
			shown = append(shown, f)
		}
	}
	d.wait(limit, "pgbench", func() bool {
		arrived()
		select {
		case report = <-finished:
			return true
		default:
			return false
		}
	})
	d.primary.SwitchWAL()
	d.settle()
	arrived()
	raw, stored := total(shown)
	d.tell("%s made %s of WAL, stored as %s; the last segment was closed early. Each is an ordinary zstd file, checked and synced before PostgreSQL is told that it is archived.",
		transactions(report), megabytes(raw), megabytes(stored))
}

// outage stops the archive host for a while.
func (d *scene) outage() {
	d.step("An outage: the archive host is down")
	d.host.Stop()
	d.run(d.primary.Command("pgbench", "-n", "-c", "4", "-t", "1000"))
	d.primary.SwitchWAL()
	var failed, waiting string
	d.wait(limit, "the archiver to fail", func() bool {
		failed = d.primary.Query("select failed_count from pg_stat_archiver")
		waiting = strconv.Itoa(d.waiting())
		return failed != "0" && said(d.primary.Log()) != ""
	})
	d.tell("sshd is stopped and the load goes on. PostgreSQL is told the truth:")
	d.quotes(said(d.primary.Log()))
	d.tell("It keeps what is not archived (%s) and asks again: %s so far.", plural(waiting, "segment"), plural(failed, "failed try"))

	began := time.Now()
	d.host.Restart()
	d.run(d.primary.Command("pgbench", "-n", "-c", "4", "-t", "200"))
	d.primary.SwitchWAL()
	d.settle()
	d.tell("sshd is back: %s after that nothing waits any more, and nothing was lost.", since(began))
}

// count sums up what a server holds.
const count = "select count(*), sum(abalance), (select count(*) from pgbench_history) from pgbench_accounts"

// loss kills the primary and removes its data.
func (d *scene) loss() {
	d.step("The primary is lost")
	d.rows = d.primary.Query(count)
	d.primary.SwitchWAL()
	d.settle()
	d.tell("It holds %s. The last segment is closed, as archive_timeout does it. Then:", holds(d.rows))
	d.types("kill -9 %d && rm -rf %s", d.primary.Pid(), d.primary.Data)
	d.check(d.primary.Kill9())
	d.check(os.RemoveAll(d.primary.Data))
}

// recovery makes a new server of the base backup and the archive.
func (d *scene) recovery() {
	d.step("A new server, from the base backup and the archive alone")
	archived := d.archive.files(d)
	raw, _ := total(archived)
	d.look()
	data := filepath.Join(d.home, "restored")
	began := time.Now()
	d.types("walship restore -D %s", data)
	d.shows(d.run(d.primary.Command(d.walship, "--config", d.config, "restore", "-D", data)))
	restored := testpg.Adopt(d, data)
	d.types("pg_ctl start -D %s", data)
	d.launch(restored)
	d.wait(limit, "the end of recovery", func() bool {
		d.alive(restored)
		answer, err := restored.Psql("select pg_is_in_recovery()")
		return err == nil && answer == "f"
	})
	took := time.Since(began)
	d.tell("It fetched and replayed WAL until the archive, which holds %d segments (%s), had no more. Restore, checks and recovery took %s.", len(archived), megabytes(raw), seconds(took))
	rows := restored.Query(count)
	if rows != d.rows {
		d.Fatalf("the primary held %s, the new server holds %s", holds(d.rows), holds(rows))
	}
	d.shows("before: " + holds(d.rows) + "\nafter:  " + holds(rows))
	d.say("\n" + d.paint(bold+";"+green, fmt.Sprintf("Not a row is missing. The whole story took %s.", seconds(time.Since(d.begun)))))
	d.say("README.md says how to set it up. make test breaks it in every way we know.")
}
