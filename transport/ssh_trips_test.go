package transport

import (
	"fmt"
	"os"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// loginTurns is how often a login waits for the server after the TCP
// connection stands: version (the server's key exchange proposal comes with
// it), key exchange, service, "none", the key's query, its signature.
const loginTurns = 6

// A further round trip in the login is a further 20 ms on a 20 ms line.
func TestLoginRoundTrips(t *testing.T) {
	alone(t)
	s := testsshd.Start(t, testsshd.Options{})
	p := testnet.New(t, s.Addr)
	p.SetDelay(25 * time.Millisecond)
	known, _ := os.ReadFile(s.KnownHosts)
	o := sshOptions(s)
	s.Port = fmt.Sprint(p.Port())
	o.KnownHosts = write(t, t.TempDir()+"/known", 0o600, string(known)+s.KnownHostsLine(s.HostKeys[0]))
	u := sshURL(t, s.URL("/"))
	u.Port = s.Port
	// On a busy machine an answer can come in two pieces and a turn be counted
	// twice: the least of some logins counts.
	least := 100
	for try := 0; try < 20 && least > loginTurns; try++ {
		begin, before := time.Now(), p.Turns()
		c, _, err := DialSSH(t.Context(), u, o)
		if err != nil {
			t.Fatal(err)
		}
		turns := p.Turns() - before
		c.Close()
		t.Logf("login: %v, %d turns", time.Since(begin), turns)
		least = min(least, turns)
	}
	if least > loginTurns {
		t.Errorf("%d turns, want %d", least, loginTurns)
	}
}

func BenchmarkLogin(b *testing.B) {
	b.Setenv("HOME", b.TempDir())
	s := testsshd.Start(b, testsshd.Options{})
	u, err := ParseURL(s.URL("/"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c, _, err := DialSSH(b.Context(), u, sshOptions(s))
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
