package transport_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testsshd"
	"walship/transport"
)

// far returns a server behind a proxy that makes each round trip take rtt longer.
func far(t testing.TB, rtt time.Duration, o testsshd.Options) *sftpServer {
	srv := testsshd.Start(t, o)
	p := testnet.New(t, srv.Addr)
	p.SetDelay(rtt / 2)
	known := filepath.Join(t.TempDir(), "known_hosts")
	line := strings.Replace(srv.KnownHostsLine(srv.HostKeys[0]), srv.Port, fmt.Sprint(p.Port()), 1)
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	url := func(path string) string { return strings.Replace(srv.URL(path), srv.Addr, p.Addr(), 1) }
	return &sftpServer{url, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: known}, plainRoot, ours}
}

// After the login a Put waits for the server three times, and a look at a file
// twice. A further round trip is a further 20 ms on a 20 ms line.
func TestSFTPRoundTrips(t *testing.T) {
	const rtt = 200 * time.Millisecond // so long that no pause of ours looks like one
	srv := far(t, rtt, testsshd.Options{})
	s := srv.open(t, transport.Full)
	prepare(t, s)
	if err := os.Mkdir(filepath.Join(s.root, sftpCluster, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		most int
		do   func() error
	}{
		{"put", 3, func() error { return s.Put(t.Context(), sftpName, content("x")) }},
		{"head", 2, func() error { _, err := s.Head(t.Context(), sftpName, 100); return err }},
		{"open and read", 2, func() error {
			f, err := s.Open(t.Context(), sftpName)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(io.Discard, f)
			return err
		}},
	} {
		begin := time.Now()
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		t.Logf("%s: %v, %.1f round trips", c.name, took, float64(took)/float64(rtt))
		if int(took/rtt) > c.most {
			t.Errorf("%s took %v, more than %d round trips of %v", c.name, took, c.most, rtt)
		}
	}
}

// BenchmarkSFTPPut stores segments on a fresh connection, which is not counted.
func BenchmarkSFTPPut(b *testing.B) {
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond, 80 * time.Millisecond} {
		for _, size := range []int{3 << 20, 16 << 20} {
			b.Run(fmt.Sprintf("rtt=%v/MB=%d", rtt, size>>20), func(b *testing.B) {
				srv := far(b, rtt, testsshd.Options{})
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(i * i >> 7)
				}
				b.SetBytes(int64(size))
				for b.Loop() {
					b.StopTimer()
					s := srv.open(b, transport.Full)
					if err := os.MkdirAll(filepath.Join(s.root, sftpCluster, "tmp"), 0o700); err != nil {
						b.Fatal(err)
					}
					if err := s.List(b.Context(), ".", func(transport.FileInfo) error { return nil }); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					err := s.Put(b.Context(), sftpCluster+"/file", transport.Source{Write: func(w io.WriterAt) error {
						for off := 0; off < size; off += 1 << 20 {
							if _, err := w.WriteAt(data[off:off+1<<20], int64(off)); err != nil {
								return err
							}
						}
						return nil
					}})
					b.StopTimer()
					if err != nil {
						b.Fatal(err)
					}
					s.Close()
					os.RemoveAll(s.root)
					b.StartTimer()
				}
			})
		}
	}
}
