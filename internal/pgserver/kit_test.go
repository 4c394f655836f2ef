package pgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/testpg"
	"walship/walname"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// params lead to a cluster, as its superuser.
func params(c *testpg.Cluster) Params {
	return Params{ConnString: fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", c.Sockets, c.Port)}
}

// server is a running cluster that archives into a folder beside its data.
func server(t testing.TB, o testpg.Options) (c *testpg.Cluster, wal string) {
	t.Helper()
	wal = testpg.Dir(t)
	conf := map[string]string{"archive_mode": "on", "archive_command": fmt.Sprintf("test ! -f %[1]s/%%f && cp %%p %[1]s/%%f", wal)}
	for name, value := range o.Conf {
		conf[name] = value
	}
	o.Conf = conf
	c = testpg.New(t, o)
	must(t, c.Start())
	return c, wal
}

// warnings gathers what a backup warns of.
type warnings struct {
	sync.Mutex
	all []string
}

func (w *warnings) add(text string) {
	w.Lock()
	defer w.Unlock()
	w.all = append(w.all, text)
}

func (w *warnings) String() string {
	w.Lock()
	defer w.Unlock()
	return strings.Join(w.all, "\n")
}

// taken is a backup on disk.
type taken struct {
	basebackup.Info
	basebackup.End
	dir      string // holds data and a folder for each tablespace
	entries  []basebackup.Entry
	manifest []byte
}

// take takes a backup and unpacks it.
func take(t testing.TB, o BackupOptions) (taken, error) {
	t.Helper()
	s, err := StartBackup(t.Context(), o)
	if err != nil {
		return taken{}, err
	}
	defer s.Close()
	b := taken{Info: s.Info(), dir: testpg.Dir(t)}
	must(t, os.Mkdir(filepath.Join(b.dir, "0"), 0o700))
	for _, space := range b.Tablespaces {
		must(t, os.Mkdir(filepath.Join(b.dir, fmt.Sprint(space.OID)), 0o700))
	}
	for {
		e, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return b, err
		}
		b.entries = append(b.entries, e)
		if err := b.unpack(t, s, e); err != nil {
			return b, err
		}
	}
	b.End, err = s.Finish()
	return b, err
}

func (b *taken) unpack(t testing.TB, s basebackup.Source, e basebackup.Entry) error {
	t.Helper()
	if e.ServerManifest {
		var err error
		b.manifest, err = io.ReadAll(s)
		return err
	}
	target := filepath.Join(b.dir, fmt.Sprint(e.Tablespace), e.Path)
	switch e.Type {
	case basebackup.Dir:
		return os.MkdirAll(target, 0o700)
	case basebackup.Link:
		return os.Symlink(e.Link, target)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(e.Mode))
	must(t, err)
	defer f.Close()
	n, err := io.Copy(f, s)
	if err == nil && n != e.Size {
		t.Errorf("%s has %d bytes instead of %d", e.Path, n, e.Size)
	}
	return err
}

// restore makes a cluster of the backup that recovers from the archive.
func (b *taken) restore(t testing.TB, wal string) *testpg.Cluster {
	t.Helper()
	data := filepath.Join(b.dir, "0")
	must(t, os.Chmod(data, 0o700))
	for _, space := range b.Tablespaces {
		// Beside the original, which is still in use: the map or the link leads there.
		moved := filepath.Join(b.dir, fmt.Sprint(space.OID))
		if text, err := os.ReadFile(filepath.Join(data, "tablespace_map")); err == nil {
			must(t, os.WriteFile(filepath.Join(data, "tablespace_map"), []byte(strings.ReplaceAll(string(text), space.Location, moved)), 0o600))
		} else {
			link := filepath.Join(data, "pg_tblspc", fmt.Sprint(space.OID))
			must(t, os.Remove(link))
			must(t, os.Symlink(moved, link))
		}
	}
	must(t, testpg.Own(b.dir))
	c := testpg.Adopt(t, data)
	c.SetConf(map[string]string{"archive_mode": "off"})
	c.WriteRecovery(false, map[string]string{"restore_command": fmt.Sprintf("cp %s/%%f %%p", wal), "recovery_target_timeline": "latest"})
	must(t, c.Start())
	must(t, c.WaitPrimary(2*time.Minute))
	return c
}

// archived waits until the WAL that the backup needs is archived.
func (b *taken) archived(c *testpg.Cluster) {
	g, _ := walname.NewGeometry(b.SegmentSize, b.SkipFF)
	c.WaitArchived(2*time.Minute, g.At(b.End.Timeline, b.EndLSN-1).String())
}

const startLimit = 2 * time.Minute
