package pgrun

import (
	"strings"
	"testing"

	"walship/walname"
)

// Logs as servers write them, with the prefixes of their time.
func TestReport(t *testing.T) {
	const p = "2026-11-22 12:00:00.123 UTC [42] "
	for name, c := range map[string]struct {
		log      string
		check    func(r Report) bool
		decisive string
		hint     string
	}{
		"a target on 15": {
			log: p + `LOG:  starting point-in-time recovery to "one"
` + p + `LOG:  restored log file "000000010000000000000002" from archive
` + p + `LOG:  redo starts at 0/2000028
` + p + `LOG:  restored log file "000000010000000000000003" from archive
` + p + `LOG:  consistent recovery state reached at 0/2000100
` + p + `LOG:  database system is ready to accept read-only connections
` + p + `LOG:  recovery stopping at restore point "one", time 2026-11-22 12:00:00+00
` + p + `LOG:  pausing at the end of recovery
` + p + `HINT:  Execute pg_wal_replay_resume() to promote.
`,
			check: func(r Report) bool {
				return r.Segment == "000000010000000000000003" && r.Redo == 0x2000028 && r.Consistent && r.Paused && !r.Open &&
					r.Stop == `recovery stopping at restore point "one", time 2026-11-22 12:00:00+00`
			},
		},
		"the end on 9.6": {
			log: `LOG:  redo done at A/3000060
LOG:  last completed transaction was at log time 2026-11-22 12:00:00.1+00
LOG:  selected new timeline ID: 12
LOG:  archive recovery complete
LOG:  database system is ready to accept connections
`,
			check: func(r Report) bool {
				return r.Done == 0xA03000060 && r.Last == "2026-11-22 12:00:00.1+00" && r.Timeline == 12 && r.Open
			},
		},
		"a target never reached": {
			log:      "FATAL:  the database system is starting up\nFATAL:  recovery ended before configured recovery target was reached\nLOG:  startup process (PID 7) exited with exit code 1\n",
			check:    func(r Report) bool { return r.unreached() },
			decisive: "FATAL:  recovery ended before configured recovery target was reached",
		},
		"fetch in doubt": {
			log: `walship: fetch: 000000010000000000000004: connection refused
walship: hint: is sshd running?
walship: hint: recovery stops here so that nothing is lost; mend the cause and start the server again
` + p + `FATAL:  could not restore file "000000010000000000000004" from archive: child process exited with exit code 126
` + p + `LOG:  startup process (PID 7) exited with exit code 1
`,
			check:    func(r Report) bool { return r.Segment == "" },
			decisive: `FATAL:  could not restore file "000000010000000000000004" from archive: child process exited with exit code 126: fetch: 000000010000000000000004: connection refused`,
			hint:     "is sshd running?",
		},
		"a restore_command that cannot be run": {
			log: "sh: 1: /root/walship: Permission denied\n" + p + `FATAL:  could not restore file "00000002.history" from archive: child process exited with exit code 126
`,
			decisive: `FATAL:  could not restore file "00000002.history" from archive: child process exited with exit code 126: sh: 1: /root/walship: Permission denied`,
		},
		"a restore_command that is silent": {
			log: p + `LOG:  restored log file "000000010000000000000003" from archive
` + p + `FATAL:  could not restore file "000000010000000000000004" from archive: child process exited with exit code 126
`,
			decisive: `FATAL:  could not restore file "000000010000000000000004" from archive: child process exited with exit code 126`,
		},
		"a setting that does not exist": {
			log: p + `LOG:  unrecognized configuration parameter "no_such" in file "/d/postgresql.conf" line 812
` + p + `FATAL:  configuration file "/d/postgresql.conf" contains errors
`,
			decisive: `FATAL:  configuration file "/d/postgresql.conf" contains errors: unrecognized configuration parameter "no_such" in file "/d/postgresql.conf" line 812`,
		},
		"a port in use": {
			log: p + `LOG:  could not bind IPv4 address "127.0.0.1": Address already in use
` + p + `HINT:  Is another postmaster already running on port 5432? If not, wait a few seconds and retry.
` + p + `WARNING:  could not create listen socket for "127.0.0.1"
` + p + `FATAL:  could not create any TCP/IP sockets
`,
			decisive: `FATAL:  could not create any TCP/IP sockets: could not create listen socket for "127.0.0.1"`,
		},
		"clients that are turned away": {
			log:      p + "FATAL:  no pg_hba.conf entry for host \"[local]\"\n" + p + "FATAL:  role \"root\" does not exist\n" + p + "PANIC:  could not locate a valid checkpoint record\n",
			decisive: "PANIC:  could not locate a valid checkpoint record",
		},
		"German": {
			log:   p + "LOG:  Logdatei »000000010000000000000007« aus Archiv wiederhergestellt\n",
			check: func(r Report) bool { return r.Segment == "000000010000000000000007" },
		},
		"what the program writes before it has a log": {
			log:      "postgres: could not access the server configuration file \"/d/postgresql.conf\": No such file or directory\n",
			decisive: `postgres: could not access the server configuration file "/d/postgresql.conf": No such file or directory`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var r Report
			for line := range strings.Lines(c.log) {
				r.Line(strings.TrimSuffix(line, "\n"))
			}
			if c.check != nil && !c.check(r) {
				t.Errorf("%+v", r)
			}
			if line, hint := r.Decisive(); c.decisive != "" && (line != c.decisive || hint != c.hint) {
				t.Errorf("%q, hint %q", line, hint)
			}
		})
	}
}

func FuzzReport(f *testing.F) {
	f.Add("LOG:  redo starts at 0/2000028\nFATAL:  x\nwalship: y")
	f.Add(`LOG:  restored log file "000000010000000000000002" from archive`)
	f.Add(`LOG:  restored log file "000000000000000000000000" from archive`)
	f.Add("LOG:  selected new timeline ID: 99999999999999999999")
	f.Add("walship: hint: \xff\nDETAIL:  \nPANIC:  ")
	f.Fuzz(func(t *testing.T, text string) {
		var r Report
		for line := range strings.Lines(text) {
			r.Line(line)
		}
		if _, err := walname.Parse(r.Segment); err != nil && r.Segment != "" {
			t.Errorf("segment %q", r.Segment)
		}
		r.Decisive()
	})
}
