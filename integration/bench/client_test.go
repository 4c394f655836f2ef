//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"path"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"walship/internal/testsshd"
	"walship/transport"
)

// TestClient measures the durable put alone, on a connection that is open, with
// walship's own SFTP client and with pkg/sftp called step after step.
func TestClient(t *testing.T) {
	srv := testsshd.Start(t, testsshd.Options{})
	content := make([]byte, 3<<20) // what a segment of pgbench's compresses to
	rand.New(rand.NewSource(1)).Read(content)
	fmt.Printf("\none durable put of 3 MB on an open connection, median of %d\n", *rounds)
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond, 80 * time.Millisecond} {
		h := at(t, srv, rtt)
		root := t.TempDir()
		u, err := transport.ParseURL("sftp://" + h.User + "@" + h.addr + root)
		must(t, err)
		login := transport.SSH{KeyFile: h.KeyFile, KnownHosts: h.known}

		store := transport.OpenSFTP(t.Context(), u, login, transport.Full)
		must(t, store.Mkdir(t.Context(), "c/wal"))
		must(t, store.Mkdir(t.Context(), "c/tmp"))
		own := repeat(t, h, func(i int) error {
			return store.Put(t.Context(), fmt.Sprintf("c/wal/own%d", i), transport.Source{Write: func(w io.WriterAt) error {
				_, err := w.WriteAt(content, 0)
				return err
			}})
		})
		must(t, store.Close())

		client, _, err := transport.DialSSH(t.Context(), u, login)
		must(t, err)
		lib, err := sftp.NewClient(client, sftp.UseConcurrentWrites(true))
		must(t, err)
		step := repeat(t, h, func(i int) error {
			return putStepByStep(lib, path.Join(root, "c/tmp/lib"), path.Join(root, fmt.Sprintf("c/wal/lib%d", i)), content)
		})
		client.Close()
		fmt.Printf("%5v round trip: walship %s, pkg/sftp %s\n", rtt, own, step)
	}
}

// repeat returns the median time and the round trips of a call.
func repeat(t *testing.T, h *host, call func(i int) error) string {
	var times []time.Duration
	var trips []int
	for i := range *rounds {
		before, start := 0, time.Now()
		if h.turns != nil {
			before = h.turns()
		}
		must(t, call(i))
		times = append(times, time.Since(start))
		if h.turns != nil {
			trips = append(trips, h.turns()-before)
		}
	}
	if len(trips) == 0 {
		return fmt.Sprintf("%3d ms", median(times).Milliseconds())
	}
	return fmt.Sprintf("%3d ms (%d trips)", median(times).Milliseconds(), median(trips))
}

// putStepByStep keeps the same promises with one call after another.
func putStepByStep(c *sftp.Client, temp, final string, content []byte) error {
	f, err := c.Create(temp)
	if err != nil {
		return err
	}
	if _, err := f.ReadFrom(bytes.NewReader(content)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := c.Link(temp, final); err != nil {
		return err
	}
	if err := c.Remove(temp); err != nil {
		return err
	}
	folder, err := c.Open(path.Dir(final))
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
