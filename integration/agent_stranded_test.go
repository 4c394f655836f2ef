package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testpg"
)

// A standby is promoted while the agent's connection has died unnoticed, as
// behind a router that has forgotten it, and a new one would work: it finishes
// what is in the archive before it opens, as it would without an agent.
func TestPromotionWithAStrandedAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := testnet.New(t, s.sshd.Addr)
	s.through(p.Addr())
	primary := newPrimary(t, s, testpg.Options{})
	primary.SetConf(map[string]string{"archive_command": s.command("--agent off push %p %f")})
	must(t, primary.Reload())
	base := backup(t, primary, false)
	// Nothing is fetched before the standby asks for it.
	s.configure(fmt.Sprintf("agent = \"auto\"\nagent_dir = %q\nprefetch_memory = \"1MB\"", s.agentDir()))

	// The standby's questions wait while there is a file.
	hold, held := filepath.Join(s.home, "hold"), filepath.Join(s.home, "held")
	standby := testpg.Restore(t, base)
	settings := s.recovering()
	settings["restore_command"] = fmt.Sprintf("while test -e %s; do touch %s; sleep 0.05; done; %s", hold, held, s.fetch())
	standby.WriteRecovery(true, settings)
	must(t, standby.Start())
	insert(primary)
	primary.Archive(soon)
	waitContents(t, standby, mustContents(t, primary))
	testpg.WaitFor(t, soon, "the agent to serve", func() bool {
		all := s.agentStatus(standby)
		return len(all) == 1 && all[0].Fetched > 0
	})

	must(t, os.WriteFile(hold, nil, 0o600))
	for range 3 {
		insert(primary)
		primary.Archive(soon)
	}
	want := mustContents(t, primary)
	testpg.WaitFor(t, soon, "a question", func() bool { _, err := os.Stat(held); return err == nil })
	asked := p.Connections()
	p.Strand()
	must(t, standby.Promote())
	begun := time.Now()
	must(t, os.Remove(hold))
	must(t, standby.WaitPrimary(soon))
	took := time.Since(begun)
	if got := mustContents(t, standby); got != want {
		t.Errorf("it has\n%s, want\n%s", got, want)
	}
	t.Logf("opened after %v, %d new connections", took, p.Connections()-asked)
	if took > opensWithin {
		t.Errorf("it took %v to open", took)
	}
}
