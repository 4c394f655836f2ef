//go:build bench

package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// rounds is how often each command is run.
var rounds = flag.Int("rounds", 15, "how often each command is run")

// material is a data directory with segments of a pgbench load.
type material struct {
	data     string
	segments []string // names in data's pg_wal
}

func (m material) path(i int) string { return filepath.Join(m.data, "pg_wal", m.name(i)) }
func (m material) name(i int) string { return m.segments[i%len(m.segments)] }

// makeMaterial lets a real server write WAL and keeps copies of what it archives.
func makeMaterial(t *testing.T) material {
	kept := testpg.Dir(t)
	if err := testpg.Own(kept); err != nil {
		t.Fatal(err)
	}
	pg := testpg.New(t, testpg.Options{})
	pg.SetConf(map[string]string{"archive_mode": "on", "archive_command": "cp %p " + kept + "/%f", "full_page_writes": "on"})
	must(t, pg.Start())
	_, err := pg.Pgbench("-i", "-s", "10", "-q")
	must(t, err)
	m := material{data: t.TempDir()}
	for len(m.segments) < *rounds+1 {
		_, err = pg.Pgbench("-c", "4", "-t", "2000")
		must(t, err)
		m.segments = nil
		names, err := filepath.Glob(filepath.Join(kept, strings.Repeat("[0-9A-F]", 24)))
		must(t, err)
		for _, n := range names[:max(0, len(names)-1)] { // the last may not be whole
			m.segments = append(m.segments, filepath.Base(n))
		}
	}
	// The ones at the front hold the tables being filled; keep the load's.
	m.segments = m.segments[len(m.segments)-*rounds-1:]
	must(t, os.MkdirAll(filepath.Join(m.data, "pg_wal"), 0o755))
	must(t, os.MkdirAll(filepath.Join(m.data, "global"), 0o755))
	for _, n := range m.segments {
		must(t, exec.Command("cp", filepath.Join(kept, n), filepath.Join(m.data, "pg_wal", n)).Run())
	}
	must(t, pg.Stop(testpg.Fast))
	for _, f := range []string{"PG_VERSION", "global/pg_control"} {
		must(t, exec.Command("cp", filepath.Join(pg.Data, f), filepath.Join(m.data, f)).Run())
	}
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestBench(t *testing.T) {
	m := makeMaterial(t)
	srv := testsshd.Start(t, testsshd.Options{Config: []string{"MaxStartups 100"}})
	walship := testbin.Walship(t)
	fmt.Printf("%d segments of a pgbench load, each way %d times in turn, medians\n", len(m.segments), *rounds)
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond} {
		h := at(t, srv, rtt)
		root := t.TempDir()
		push := pushers(t, m, h, walship, root)
		measure(t, *rounds, push)
		report(fmt.Sprintf("push one segment, cold, %v round trip", rtt), push)
		fetch := fetchers(t, m, h, walship, root)
		measure(t, *rounds, fetch)
		report(fmt.Sprintf("fetch one segment, cold, %v round trip", rtt), fetch)
	}
	local := locals(t, m, walship)
	measure(t, *rounds, local)
	report("push one segment to a local folder", local)
}

// call is a walship command line against the archive at root.
func call(m material, walship string, h *host, root string, args ...string) *exec.Cmd {
	cmd := exec.Command(walship, args...)
	cmd.Dir = m.data
	cmd.Env = append(os.Environ(), "HOME="+root, "WALSHIP_ARCHIVE=file://"+root)
	if h != nil {
		cmd.Env = append(cmd.Env, "WALSHIP_ARCHIVE=sftp://"+h.User+"@"+h.addr+root,
			"WALSHIP_SSH_KEY="+h.KeyFile, "WALSHIP_KNOWN_HOSTS="+h.known)
	}
	return cmd
}

// sealedArchive makes an encrypted archive beside the other one, with a new key,
// and returns its recipient.
func sealedArchive(t *testing.T, m material, h *host, walship, root string) (recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "identity.txt"), []byte(id.String()+"\n"), 0o600))
	folder(t, root, "sealed")
	recipient = id.Recipient().String()
	if out, err := sealedCall(m, walship, h, root, recipient, "init").CombinedOutput(); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	return recipient
}

// sealedCall is call against the encrypted archive beside that at root.
func sealedCall(m material, walship string, h *host, root, recipient string, args ...string) *exec.Cmd {
	cmd := call(m, walship, h, filepath.Join(root, "sealed"), args...)
	cmd.Env = append(cmd.Env, "WALSHIP_RECIPIENTS="+recipient, "WALSHIP_IDENTITY_FILE="+filepath.Join(root, "identity.txt"))
	return cmd
}

func folder(t *testing.T, path ...string) string {
	dir := filepath.Join(path...)
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}

func pushers(t *testing.T, m material, h *host, walship, root string) []*contender {
	out, err := call(m, walship, h, root, "init").CombinedOutput()
	if err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	recipient := sealedArchive(t, m, h, walship, root)
	ssh, target := h.ssh(), h.Target()
	viaSCP, viaRsync, viaPipe := folder(t, root, "scp"), folder(t, root, "rsync"), folder(t, root, "pipe")
	return []*contender{
		{name: "scp (no fsync)", turns: h.turns, run: func(i int) *exec.Cmd {
			return exec.Command("scp", append(append([]string{"-q"}, h.args()...), m.path(i), target+":"+viaSCP+"/"+m.name(i))...)
		}},
		{name: "rsync (no fsync)", turns: h.turns, run: func(i int) *exec.Cmd {
			return exec.Command("rsync", "-e", ssh, m.path(i), target+":"+viaRsync+"/"+m.name(i))
		}},
		{name: "zstd -1 | ssh cat, sync, ln, sync", turns: h.turns, run: func(i int) *exec.Cmd {
			to := viaPipe + "/" + m.name(i)
			return sh(fmt.Sprintf("zstd -1 -qc %s | %s %s 'cat > %s.tmp && sync %s.tmp && ln %s.tmp %s && rm %s.tmp && sync %s'",
				m.path(i), ssh, target, to, to, to, to, to, viaPipe))
		}},
		{name: "walship push", turns: h.turns, run: func(i int) *exec.Cmd {
			return call(m, walship, h, root, "push", "pg_wal/"+m.name(i), m.name(i))
		}},
		{name: "walship push, encrypted", turns: h.turns, run: func(i int) *exec.Cmd {
			return sealedCall(m, walship, h, root, recipient, "push", "pg_wal/"+m.name(i), m.name(i))
		}},
		{name: "walship push, archived already", turns: h.turns, run: func(i int) *exec.Cmd {
			return call(m, walship, h, root, "push", "pg_wal/"+m.name(i), m.name(i))
		}},
	}
}

func fetchers(t *testing.T, m material, h *host, walship, root string) []*contender {
	ssh, target := h.ssh(), h.Target()
	to := filepath.Join(folder(t, root, "out"), "segment")
	whole := func(int) { os.Remove(to) }
	return []*contender{
		{name: "scp (no fsync)", turns: h.turns, prep: whole, run: func(i int) *exec.Cmd {
			return exec.Command("scp", append(append([]string{"-q"}, h.args()...), target+":"+root+"/scp/"+m.name(i), to)...)
		}},
		{name: "rsync (no fsync)", turns: h.turns, prep: whole, run: func(i int) *exec.Cmd {
			return exec.Command("rsync", "-e", ssh, target+":"+root+"/rsync/"+m.name(i), to)
		}},
		{name: "ssh cat | zstd -dc", turns: h.turns, prep: whole, run: func(i int) *exec.Cmd {
			return sh(fmt.Sprintf("%s %s cat %s/pipe/%s | zstd -qdc > %s", ssh, target, root, m.name(i), to))
		}},
		{name: "walship fetch", turns: h.turns, prep: whole, run: func(i int) *exec.Cmd {
			return call(m, walship, h, root, "fetch", m.name(i), to)
		}},
		{name: "walship fetch, encrypted", turns: h.turns, prep: whole, run: func(i int) *exec.Cmd {
			return sealedCall(m, walship, h, root, "", "fetch", m.name(i), to)
		}},
	}
}

func locals(t *testing.T, m material, walship string) []*contender {
	root := t.TempDir()
	out, err := call(m, walship, nil, root, "init").CombinedOutput()
	if err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	recipient := sealedArchive(t, m, nil, walship, root)
	copies := folder(t, root, "cp")
	return []*contender{
		{name: "cp, sync, mv, sync", run: func(i int) *exec.Cmd {
			to := copies + "/" + m.name(i)
			return sh(fmt.Sprintf("cp %s %s.tmp && sync %s.tmp && mv %s.tmp %s && sync %s", m.path(i), to, to, to, to, copies))
		}},
		{name: "walship push", run: func(i int) *exec.Cmd {
			return call(m, walship, nil, root, "push", "pg_wal/"+m.name(i), m.name(i))
		}},
		{name: "walship push, encrypted", run: func(i int) *exec.Cmd {
			return sealedCall(m, walship, nil, root, recipient, "push", "pg_wal/"+m.name(i), m.name(i))
		}},
	}
}
