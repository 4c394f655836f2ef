package restore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/internal/walpage"
	"walship/walname"
)

// A stored file that is not what was pushed is doubt that names it, in every
// mode, and never reaches the path.
func TestDamageIsDoubt(t *testing.T) {
	good, other := fixture(t, small, seg6), fixture(t, small, seg7)
	history := fixture(t, small, fork2)
	foreign := bytes.Clone(good)
	foreign[24]++
	for _, codec := range stored.Written() {
		s := newSite(t, small)
		sound := s.encoded(seg6, good, codec)
		theirs := newSite(t, "15")
		for _, c := range []struct {
			what, name string
			file       []byte
		}{
			{"empty", seg6, nil},
			{"cut", seg6, sound[:len(sound)/2]},
			{"cut by a byte", seg6, sound[:len(sound)-1]},
			{"grown", seg6, append(bytes.Clone(sound), 0)},
			{"swapped", seg7, sound},
			{"zeros", seg6, make([]byte, len(sound))},
			{"half a segment", seg6, s.encoded(seg6, good[:1<<19], codec)},
			{"two segments", seg6, s.encoded(seg6, append(bytes.Clone(good), other...), codec)},
			{"no content", seg6, s.encoded(seg6, nil, codec)},
			{"ten bytes", seg6, s.encoded(seg6, good[:10], codec)},
			{"another's content", seg6, s.encoded(seg6, other, codec)},
			{"another cluster's content", seg6, s.encoded(seg6, foreign, codec)},
			{"zeros as content", seg6, s.encoded(seg6, make([]byte, 1<<20), codec)},
			{"an empty history", fork2, s.encoded(fork2, nil, codec)},
			{"a torn history", fork2, s.encoded(fork2, history[:6], codec)},
			{"a history of text", fork2, s.encoded(fork2, []byte("not found\n"), codec)},
			{"a huge history", fork2, s.encoded(fork2, bytes.Repeat([]byte("#\n"), maxSmall/2+1), codec)},
			{"an empty label", seg6 + ".00000028.backup", s.encoded(seg6+".00000028.backup", nil, codec)},
			{"a record of another name", fork2, s.encoded("00000003.history", history, codec)},
			{"a record of another cluster", fork2, theirs.encoded(fork2, history, codec)},
		} {
			if codec == stored.Plain && strings.Contains(c.what, "record") {
				continue // it has none
			}
			if codec != stored.Plain && c.what == "zeros as content" {
				continue // vouched for: pushed with the header check off
			}
			stow := s.archive(c.name, nil, codec)
			s.plant(stow, c.file)
			for _, mode := range modes {
				s.doubt(fmt.Sprint(c.what, ", ", codec, ", ", mode), s.fetch(c.name, mode), stored.ErrDamaged, stow)
			}
			if err := s.store.Remove(t.Context(), stow); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// One flipped bit anywhere: never wrong bytes. (Where no record vouches for the
// content, in a plain file, only the header is checked.)
func TestFlippedBits(t *testing.T) {
	content := fixture(t, small, seg6)
	r := rand.New(rand.NewPCG(3, 3))
	for _, codec := range []stored.Codec{stored.Zstd, stored.Gzip} {
		s := newSite(t, small)
		stow := s.archive(seg6, content, codec)
		file, _ := s.store.Bytes(stow)
		bits := []int{0, 7, 8 * 4, 8 * 8, len(file)*8 - 1}
		for range 60 {
			bits = append(bits, r.IntN(len(file)*8), r.IntN(600*8))
		}
		for _, bit := range bits {
			bad := slices.Clone(file)
			bad[bit/8] ^= 1 << (bit % 8)
			s.plant(stow, bad)
			write(t, s.path(), old)
			if err := s.fetch(seg6, pgdata.ArchiveRecovery); err == nil {
				s.delivered(nil, content)
			} else {
				s.doubt(fmt.Sprint(codec, ", bit ", bit), err, stored.ErrDamaged, stow)
			}
		}
	}
}

// A plain file carries no record: the file beside it vouches for its content. In
// walship's own part of the archive every file is vouched for in some way.
func TestVouched(t *testing.T) {
	content := fixture(t, small, seg6)
	for _, at := range []int{walpage.MinLen, 5000, len(content) - 1} {
		s := newSite(t, small)
		stow := s.archive(seg6, content, stored.Plain)
		flipped := bytes.Clone(content)
		flipped[at] ^= 0x10
		s.plant(stow, flipped)
		s.doubt(fmt.Sprint("flipped at ", at), s.fetch(seg6, pgdata.ArchiveRecovery), stored.ErrDamaged, stow)
	}
	for _, codec := range stored.Written() {
		s := newSite(t, small)
		n, _ := walname.Parse(seg6)
		stow := s.cluster().Stem(n) + codec.Extension()
		b := s.encoded(seg6, content, codec)
		switch codec { // leave the record out
		case stored.Zstd:
			b = b[512:]
		case stored.Gzip:
			b = b[stored.HeadSize:]
		}
		if codec.IsSealed() { // what age by itself makes
			var file bytes.Buffer
			w, err := age.Encrypt(&file, testIdentity().Recipient())
			if err != nil {
				t.Fatal(err)
			}
			w.Write(s.encoded(seg6, content, stored.CodecOf(strings.TrimSuffix(stow, ".age"))))
			w.Close()
			b = file.Bytes()
		}
		s.plant(stow, b)
		s.doubt("no record, "+string(codec), s.fetch(seg6, pgdata.ArchiveRecovery), stored.ErrDamaged, stow)
	}
}

// A damaged copy is passed over for a sound one, which is reported.
func TestSecondCopy(t *testing.T) {
	content := fixture(t, small, seg6)
	for _, place := range []string{"gzip", "none", "flat", "flat gzip"} {
		s := newSite(t, small)
		bad := s.archive(seg6, content, stored.Zstd)
		s.plant(bad, nil)
		switch place {
		case "flat":
			s.plant(seg6, content)
		case "flat gzip":
			s.plant(seg6+".gz", s.encoded(seg6, content, stored.Gzip))
		default:
			s.archive(seg6, content, stored.Codec(place))
		}
		s.delivered(s.fetch(seg6, pgdata.ArchiveRecovery), content)
		if len(s.warns) != 1 || !strings.Contains(s.warns[0], bad) {
			t.Errorf("%s: warned %q", place, s.warns)
		}
	}
	s := newSite(t, small)
	first := s.archive(seg6, nil, stored.Zstd)
	s.archive(seg6, content[:100], stored.Gzip)
	s.doubt("no sound one", s.fetch(seg6, pgdata.ArchiveRecovery), stored.ErrDamaged, first)
}

// What this program is too old to judge is delivered if its record vouches for
// it, or if the check is off.
func TestUnknownMagicIsDelivered(t *testing.T) {
	newer := fixture(t, small, seg6)
	newer[0], newer[1] = 0x20, 0xD1
	encrypted := bytes.Repeat([]byte("encrypted"), 1<<20/9+1)[:1<<20]
	for _, content := range [][]byte{newer, encrypted} {
		s := newSite(t, small)
		s.archive(seg6, content, stored.Zstd)
		s.delivered(s.fetch(seg6, pgdata.ArchiveRecovery), content)
	}
	s := newSite(t, small)
	stow := s.archive(seg6, encrypted, stored.Plain)
	s.doubt("no record", s.fetch(seg6, pgdata.ArchiveRecovery), stored.ErrDamaged, stow)
	s.HeaderCheck = false
	s.delivered(s.fetch(seg6, pgdata.ArchiveRecovery), encrypted)
}
