package restore

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
)

// Who can add to an archive and not change it cannot get another copy of a
// segment, whole and with a record, between the true one and its reader: the one
// that is stored as the archive stores its files comes first.
func TestShadowed(t *testing.T) {
	content := fixture(t, small, seg6)
	lie := bytes.Clone(content)
	lie[len(lie)-1]++
	for _, codec := range stored.Written() {
		s := newSite(t, small)
		c := s.data.Control
		inner, sealed := strings.CutSuffix(string(codec), "+age")
		id := layout.Identity{SystemID: c.SystemID, SegmentSize: c.SegmentSize, Codec: inner, Created: time.Unix(1, 0)}
		if sealed {
			id.Recipients = testIdentity().Recipient().String()
		}
		if err := s.store.Remove(t.Context(), s.cluster().IdentityFile()); err != nil {
			t.Fatal(err)
		}
		s.plant(s.cluster().IdentityFile(), id.Marshal())
		for _, other := range stored.Written() {
			if other != codec {
				s.archive(seg6, lie, other)
			}
		}
		for _, other := range stored.Foreign() { // in the root, as another tool leaves it
			s.plant(seg6+other.Extension(), lie)
			if other != stored.LZ4 {
				s.plant(seg6+other.Extension(), s.encoded(seg6, lie, other))
			}
		}
		s.archive(seg6, content, codec)
		for _, mode := range []pgdata.Mode{pgdata.Standby, pgdata.ArchiveRecovery, pgdata.ByHand} {
			s.delivered(s.fetch(seg6, mode), content)
		}
	}
}
