package restore

import (
	"errors"
	"fmt"
	"testing"

	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
)

// Of two archives the second one alone knows of timeline 3, and cannot tell of it:
// that timeline 2's history is in neither of them is then no answer, for recovery
// would begin a timeline 2 and never see what is on 3. A file at hand is delivered.
func TestMissWhileOneArchiveKeepsItsHistoriesToItself(t *testing.T) {
	one, other := newSite(t, small), newSite(t, small)
	one.Archive, other.Archive = "one", "other"
	content := fixture(t, small, seg6)
	one.archive(seg6, content, stored.Zstd)
	stow := other.archive("00000003.history", []byte("1\t0/700000\tx\n2\t0/800000\tx\n"), stored.Zstd)
	all := Fetchers{one.Fetcher, other.Fetcher}
	fetch := func(name string) error {
		return all.Fetch(t.Context(), Request{Name: name, Path: one.path(), Data: one.data, Mode: pgdata.ArchiveRecovery})
	}
	if err := fetch(fork2); !errors.Is(err, ErrWithheld) {
		t.Errorf("it is known that timeline 3 is there: %v", err)
	}
	outage := fmt.Errorf("%w: outage", transport.ErrUnreachable)
	other.store.Hook(func(step storetest.Step) storetest.Fault {
		if step.Name == stow {
			return storetest.Fault{Err: outage}
		}
		return storetest.Fault{}
	})
	one.doubt("it is not known", fetch(fork2), transport.ErrUnreachable, "other: ")

	// Who can ask again in another way is not given a file that may be withheld.
	one.Sure, other.Sure = true, true
	one.doubt("sure", fetch(seg6), transport.ErrUnreachable, "other: ")
	one.Sure, other.Sure = false, false
	one.delivered(fetch(seg6), content)
}
