package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// failover kills the primary, promotes the standby and lets the old primary
// follow it.
func (d *scene) failover() {
	d.step("The primary is killed, the standby takes over")
	d.primary.kill9()
	d.standby.does("pg_ctl -D data -w promote")
	d.standby.silent("pgbench -n -c 4 -t 250")
	d.standby.settles()
	d.tell("It archives what is new, on a timeline of its own, whose history came first:")
	histories, err := filepath.Glob(filepath.Join(d.archive.root, "*", "history", "*"))
	d.check(err)
	if len(histories) == 0 {
		d.Fatalf("the new timeline's history is not in the archive:\n%s", d.standby.log())
	}
	for _, file := range histories {
		d.shows(strings.TrimPrefix(file, d.home+"/"))
	}
	d.tell("The old primary comes back as a standby of the new one:")
	d.primary.does("walship setup standby -D data --primary 127.0.0.1:%d --port %d --rejoin --force --start", d.standby.port, d.primary.port)
	d.same(d.standby, d.primary)
}

// mistake deletes rows, and the standby does so, too. Then both are lost. It
// returns a time before, which all that was counted had been committed by.
func (d *scene) mistake() (before string) {
	d.step("A mistake, and the loss of both servers")
	d.rows = d.standby.query(count)
	noted := time.Now().Truncate(time.Second).Add(time.Second)
	d.wait(limit, "the next second", func() bool { return time.Now().After(noted.Add(50 * time.Millisecond)) })
	d.tell("At %s UTC all is well. Then somebody deletes a third of the accounts, in the wrong database:", noted.UTC().Format(time.TimeOnly))
	d.standby.does("psql -c 'delete from pgbench_accounts where aid %% 3 = 0'")
	d.tell("A standby is no backup. It does what the primary does:")
	d.primary.holds(d.standby.query(count))
	d.standby.settles()
	d.tell("The last segment is closed, as archive_timeout does it. Then both servers are lost, with all their data:")
	for _, m := range []*machine{d.standby, d.primary} {
		m.kill9()
		m.silent("rm -rf data")
	}
	return noted.UTC().Format("2006-01-02 15:04:05-07")
}

// restore brings back what there was before the mistake.
func (d *scene) restore(before string) {
	d.step("Back to the moment before, from the archive alone")
	if d.onPrimary {
		d.tell("That is whole: it was on a disk of its own.")
	}
	d.primary.does("walship list")
	began := time.Now()
	d.primary.does("walship restore -D data --time '%s' --target-action promote --start", before)
	took := time.Since(began)
	d.tell("Before the mistake, and now, %s later:", seconds(took))
	d.shows(fmt.Sprintf("%-8s %s", "before:", words(d.rows)))
	d.primary.holds(d.rows)
	d.say("\n" + d.paint(bold+";"+green, fmt.Sprintf("Not a row is missing. The whole story took %s.", seconds(time.Since(d.begun)))))
	d.say("README.md says how to set it up. make test breaks it in every way we know.")
}
