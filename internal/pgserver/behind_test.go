package pgserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"walship/internal/basebackup"
	"walship/internal/testpg"
	"walship/transport"
)

// TestMain lets this program be a backup that never goes on, to be killed.
func TestMain(m *testing.M) {
	if conn := os.Getenv("WALSHIP_TEST_BACKUP"); conn != "" {
		_, err := StartBackup(context.Background(), BackupOptions{
			Params: Params{ConnString: conn}, Fast: true, Method: os.Getenv("WALSHIP_TEST_METHOD"), exclusive: os.Getenv("WALSHIP_TEST_EXCLUSIVE") != "", MaxRate: slowly,
		})
		fmt.Println("begun:", err)
		if err == nil {
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// slowly is a rate at which no backup comes to its end within a test, in kB/s.
const slowly = 512

// begin starts a backup and reads a little of it.
func begin(t *testing.T, ctx context.Context, o BackupOptions) basebackup.Source {
	t.Helper()
	o.MaxRate = slowly
	s, err := StartBackup(ctx, o)
	must(t, err)
	for range 3 {
		_, err := s.Next()
		must(t, err)
	}
	return s
}

// nothingStays waits until the server knows of no backup.
func nothingStays(t *testing.T, c *testpg.Cluster) {
	t.Helper()
	testpg.WaitFor(t, startLimit, "the server to have forgotten the backup", func() bool {
		return c.Query("select count(*) from pg_stat_activity where application_name = 'walship'") == "0" &&
			c.Query("select count(*) from pg_stat_replication") == "0"
	})
	if c.Major < 15 && c.Query("select pg_is_in_backup()") != "f" {
		t.Error("in backup mode")
	}
}

// child runs a backup in a process of its own and kills it.
func child(t *testing.T, o BackupOptions) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "WALSHIP_TEST_BACKUP="+o.ConnString, "WALSHIP_TEST_METHOD="+o.Method)
	if o.exclusive {
		cmd.Env = append(cmd.Env, "WALSHIP_TEST_EXCLUSIVE=1")
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, _ := bufio.NewReader(out).ReadString('\n')
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if !strings.Contains(line, "<nil>") {
		t.Fatal(line)
	}
}

// named takes a backup of a server that a killed one has left in backup mode, and
// then does what the message says.
func named(t *testing.T, c *testpg.Cluster, o BackupOptions) {
	t.Helper()
	_, err := StartBackup(t.Context(), o)
	if !errors.Is(err, ErrServer) || !strings.Contains(err.Error(), `backup "walship", begun 20`) || !strings.Contains(transport.Hint(err), "SELECT pg_stop_backup()") {
		t.Errorf("%v\nhint: %s", err, transport.Hint(err))
	}
	t.Logf("%v\nhint: %s", err, transport.Hint(err))
	if got := c.Query("select pg_is_in_backup()"); got != "t" {
		t.Error("the other backup's mode was ended")
	}
	c.Query("select pg_stop_backup()")
}

// endings ends backups early in every way.
func endings(t *testing.T, c *testpg.Cluster, o BackupOptions) {
	o.Params, o.Fast = params(c), true
	t.Run("closed", func(t *testing.T) {
		s := begin(t, t.Context(), o)
		must(t, s.Close())
		must(t, s.Close())
		if _, err := s.Next(); !errors.Is(err, errClosed) {
			t.Error(err)
		}
		if _, err := s.Finish(); !errors.Is(err, errClosed) {
			t.Error(err)
		}
		nothingStays(t, c)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		s := begin(t, ctx, o)
		why := errors.New("enough")
		cancel(why)
		for {
			_, err := s.Next()
			if err == nil {
				_, err = io.Copy(io.Discard, s)
			}
			if err != nil {
				if !errors.Is(err, why) {
					t.Error(err)
				}
				break
			}
		}
		if _, err := s.Finish(); err == nil {
			t.Error("finished")
		}
		must(t, s.Close())
		nothingStays(t, c)
	})
	t.Run("killed", func(t *testing.T) {
		child(t, o)
		if o.exclusive {
			named(t, c, o)
		}
		nothingStays(t, c)
	})
	t.Run("too early", func(t *testing.T) {
		s := begin(t, t.Context(), o)
		if _, err := s.Finish(); !errors.Is(err, ErrServer) {
			t.Error(err)
		}
		must(t, s.Close())
		nothingStays(t, c)
	})
}

func TestNothingStaysBehind(t *testing.T) {
	c := testpg.New(t, testpg.Options{})
	must(t, c.Start())
	for _, method := range []string{Protocol, Files} {
		t.Run(method, func(t *testing.T) { endings(t, c, BackupOptions{Method: method}) })
	}
	for _, method := range []string{Protocol, Files} {
		t.Run("server killed, "+method, func(t *testing.T) {
			s := begin(t, t.Context(), BackupOptions{Params: params(c), Method: method, Fast: true})
			defer s.Close()
			if s, ok := s.(*filesSource); ok {
				s.slow = nil
			}
			must(t, c.Kill9())
			for {
				_, err := s.Next()
				if err == nil {
					_, err = io.Copy(io.Discard, s)
				}
				if errors.Is(err, io.EOF) {
					_, err = s.Finish()
				}
				if err != nil {
					if !errors.Is(err, ErrServer) || !strings.Contains(err.Error(), "connection was lost") {
						t.Error(err)
					}
					break
				}
			}
			must(t, c.Start())
		})
	}
}

// A backup that is given up while the server is still writing its checkpoint,
// which it spreads over minutes.
func TestCancelledAtTheCheckpoint(t *testing.T) {
	c := testpg.New(t, testpg.Options{Conf: map[string]string{"max_wal_size": "1GB", "shared_buffers": "64MB", "checkpoint_timeout": "1h"}})
	must(t, c.Start())
	// Some 3,000 pages to write, ten a second.
	c.Query("create table t (n int, x text); insert into t select n, repeat('x', 500) from generate_series(1, 45000) n")
	for _, method := range []string{Protocol, Files} {
		t.Run(method, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			done := make(chan error, 1)
			go func() {
				s, err := StartBackup(ctx, BackupOptions{Params: params(c), Method: method})
				if err == nil {
					s.Close()
				}
				done <- err
			}()
			testpg.WaitFor(t, startLimit, "the backup to wait for its checkpoint", func() bool {
				return c.Query("select count(*) from pg_stat_activity where application_name = 'walship' and wait_event like 'Checkpoint%'") == "1"
			})
			cancel(why)
			if err := <-done; !errors.Is(err, why) {
				t.Error(err)
			}
			nothingStays(t, c)
		})
	}
}
