package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"walship/internal/basebackup"
	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/transport/storetest"
	"walship/walname"
)

// watched is a store that remembers all bytes that were ever written to it,
// those of temporary files included.
type watched struct {
	memory
	mu  sync.Mutex
	got bytes.Buffer
}

func (w *watched) Put(ctx context.Context, name string, src transport.Source) error {
	write := src.Write
	src.Write = func(to io.WriterAt) error {
		return write(tapped{w, to})
	}
	return w.memory.Put(ctx, name, src)
}

type tapped struct {
	w  *watched
	to io.WriterAt
}

func (t tapped) WriteAt(p []byte, at int64) (int, error) {
	t.w.mu.Lock()
	t.w.got.Write(p)
	t.w.mu.Unlock()
	return t.to.WriteAt(p, at)
}

// An archive with recipients never gets a byte of content that is not encrypted,
// not even in a temporary file, whatever the pusher takes it for.
func TestNothingInTheClear(t *testing.T) {
	content := fixture(t, small, seg6)
	for _, own := range []stored.Codec{stored.Zstd, stored.Plain} {
		for _, guess := range []stored.Codec{stored.Plain, stored.Zstd, stored.Plain.Sealed()} {
			s := newSite(t, small, own.Sealed())
			store := &watched{memory: memory{s.store}}
			s.Store, s.Codec, s.Recipients = store, inner(guess), recipientsFor(guess)
			body := bytes.Clone(content)
			copy(body[len(body)/2:], "a secret that would be found, sixty-four bytes of it at the least")
			secret := body[len(body)/2:][:64]
			s.mustPush(seg6, body)
			s.mustPush(fork2, []byte("1\t0/7000000\t"+string(secret)+"\n"))
			s.holds(s.stem(seg6), body)
			if bytes.Contains(store.got.Bytes(), secret) {
				t.Errorf("archive of %s with recipients, guess %s: the content was written in the clear", own, guess)
			}
			if own == stored.Plain && store.got.Len() < len(body) {
				t.Errorf("%d bytes were seen, so this tests nothing", store.got.Len())
			}
		}
	}
}

// A pusher that has recipients of its own stores nothing for others, whatever the
// archive wants: not unencrypted, and not for someone whom it does not know.
func TestPinnedRecipients(t *testing.T) {
	stranger, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	content := fixture(t, small, seg6)
	mine := recipientsOf(testIdentity())
	for what, c := range map[string]struct {
		archive *crypt.Recipients
		says    string
	}{
		"unencrypted":        {nil, "not encrypted"},
		"a stranger's":       {recipientsOf(stranger), "does not name"},
		"mine and another's": {recipientsOf(testIdentity(), stranger), "does not name"},
	} {
		s := newSite(t, small, stored.Zstd)
		if c.archive != nil {
			if _, _, err := SetRecipients(t.Context(), memory{s.store}, s.cluster(), c.archive); err != nil {
				t.Fatal(err)
			}
		}
		before := s.store.Names()
		s.Recipients = mine
		if err := s.push(seg6, content); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
		if after := s.store.Names(); len(after) != len(before) {
			t.Errorf("%s: stored %q", what, after)
		}
		b := &Backuper{Store: memory{s.store}, Recipients: mine}
		if err := b.Check(t.Context(), s.data.Control.SystemID, s.data.Control.SegmentSize); !errors.Is(err, ErrArchive) {
			t.Errorf("%s, backup: %v", what, err)
		}
	}
	// Fewer than it knows are fine: so a new one can be announced first.
	s := newSite(t, small, stored.Zstd.Sealed())
	s.Recipients = recipientsOf(stranger, testIdentity())
	s.mustPush(seg6, content)
	s.holds(s.stem(seg6), content)
}

// New recipients are for what comes from then on; what is there stays as it is,
// and is still known as archived.
func TestSetRecipients(t *testing.T) {
	next, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, small, stored.Zstd)
	content := func(name string) []byte { return s.segment(name, fixture(t, small, seg6)) }
	opens := func(name string, keys *crypt.Keys) error {
		file, _ := s.store.Bytes(s.stem(name) + stored.Zstd.Sealed().Extension())
		c, err := stored.Decode(bytes.NewReader(file), int64(len(file)), stored.Zstd.Sealed(), 1<<30, keys)
		if err == nil {
			c.Close()
		}
		return err
	}
	s.mustPush(seg6, content(seg6)) // unencrypted
	for i, to := range []*crypt.Recipients{recipientsOf(testIdentity()), recipientsOf(testIdentity(), next), recipientsOf(next)} {
		id, was, err := SetRecipients(t.Context(), memory{s.store}, s.cluster(), to)
		if err != nil || id.Recipients != strings.Join(to.Texts(), "\n") || was.Sealed() != (i > 0) || id.Created != was.Created {
			t.Fatalf("%+v, before %+v, %v", id, was, err)
		}
		if again, _, err := SetRecipients(t.Context(), memory{s.store}, s.cluster(), to); err != nil || again != id {
			t.Errorf("once more: %+v, %v", again, err)
		}
		name := []string{seg7, "000000010000000000000008", seg9}[i]
		s.mustPush(name, content(name))
		if err := opens(name, crypt.KeysOf(testIdentity())); (err == nil) != (i < 2) {
			t.Errorf("%d: with the first key: %v", i, err)
		}
		if err := opens(name, crypt.KeysOf(next)); (err == nil) != (i > 0) {
			t.Errorf("%d: with the next key: %v", i, err)
		}
		if err := opens(name, crypt.KeysOf(testIdentity(), next)); err != nil {
			t.Errorf("%d: with both: %v", i, err)
		}
		for _, old := range []string{seg6, seg7, name} {
			s.mustPush(old, content(old))
			if err := s.push(old, changed(content(old))); !errors.Is(err, ErrConflict) {
				t.Errorf("%d: other content than that of %s: %v", i, old, err)
			}
		}
	}
	if _, ok := s.store.Bytes(s.stem(seg6) + ".zst"); !ok {
		t.Error("what was there has gone")
	}
	if _, _, err := SetRecipients(t.Context(), memory{s.store}, s.cluster(), nil); !errors.Is(err, crypt.ErrRecipients) {
		t.Errorf("none: %v", err)
	}
	if _, _, err := SetRecipients(t.Context(), memory{storetest.NewMemory()}, s.cluster(), recipientsOf(next)); !errors.Is(err, ErrArchive) {
		t.Errorf("no archive: %v", err)
	}
}

// A walship.json that names what is no recipient lets nothing be stored.
func TestBrokenRecipients(t *testing.T) {
	s := newSite(t, small, stored.Zstd.Sealed())
	id := layout.Identity{SystemID: s.data.Control.SystemID, SegmentSize: s.data.Control.SegmentSize, Codec: "zstd", Recipients: "age1nobody"}
	if err := s.store.Plant(s.cluster().IdentityFile(), id.Marshal()); err != nil {
		t.Fatal(err)
	}
	before := len(s.store.Names())
	if err := s.push(seg6, fixture(t, small, seg6)); !errors.Is(err, ErrArchive) {
		t.Error(err)
	}
	if names := s.store.Names(); len(names) != before {
		t.Errorf("stored %q", names)
	}
}

// Without any key the archive is known as well as an unencrypted one: what there
// is, where timelines fork, which WAL a backup needs, and whether a bit has
// changed. What is not known is said once.
func TestWithoutTheKey(t *testing.T) {
	open, shut := wholeArchive(t, stored.Zstd), wholeArchive(t, stored.Zstd.Sealed())
	take := func(s *backups) string {
		inv, err := Take(t.Context(), s.Pusher.Store, s.cluster(), Look{})
		if err != nil || len(inv.Broken) > 0 {
			t.Fatalf("%v, broken %+v", err, inv.Broken)
		}
		return strings.ReplaceAll(sketch(inv), ".age", "")
	}
	if a, b := take(open), take(shut); a != b {
		t.Errorf("the inventory of an encrypted archive:\n%sof the same in the clear:\n%s", b, a)
	}
	// What the header of a history tells is believed only of a file that is whole:
	// with another fork prune would keep other WAL.
	history := shut.stem(fork2) + ".zst.age"
	file, _ := shut.store.Bytes(history)
	for at := bytes.Index(file, []byte("walship-told")); at < bytes.Index(file, []byte("\n--- ")); at++ {
		bad := bytes.Clone(file)
		bad[at] ^= 4
		if err := shut.store.Plant(history, bad); err != nil {
			t.Fatal(err)
		}
		if inv, err := Take(t.Context(), shut.Pusher.Store, shut.cluster(), Look{}); err != nil || len(inv.Broken) != 1 {
			t.Errorf("byte %d of the history: %v, broken %+v", at, err, inv.Broken)
		}
	}
	if err := shut.store.Plant(history, file); err != nil {
		t.Fatal(err)
	}
	v := shut.verifier()
	v.Keys = nil
	verdict, err := v.Run(t.Context())
	if err != nil || len(verdict.Faults) > 0 || len(verdict.Warnings) != 1 || !strings.Contains(verdict.Warnings[0], "identity_file") || verdict.Files < 40 {
		t.Fatalf("%v, %+v", err, verdict)
	}
	for _, name := range shut.store.Names() {
		if !strings.HasSuffix(name, ".age") {
			continue
		}
		file, _ := shut.store.Bytes(name)
		bad := bytes.Clone(file)
		bad[len(bad)*3/4] ^= 4
		if err := shut.store.Plant(name, bad); err != nil {
			t.Fatal(err)
		}
		verdict, err := v.Run(t.Context())
		if err != nil || len(verdict.Faults) != 1 || verdict.Faults[0].File != name || verdict.Faults[0].Kind != Damaged {
			t.Errorf("%s with a flipped bit: %v, %+v", path.Base(name), err, verdict)
		}
		if err := shut.store.Plant(name, file); err != nil {
			t.Fatal(err)
		}
	}
	// A part that is gone: the lists, which name it, cannot be read.
	for _, name := range shut.store.Names() {
		if strings.Contains(path.Base(name), "base-000001") {
			part, _ := shut.store.Bytes(name)
			if err := shut.store.Remove(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if verdict, err := v.Run(t.Context()); err != nil || len(verdict.Faults) != 1 || path.Base(verdict.Faults[0].File) != basebackup.ManifestFile {
				t.Errorf("a part that is gone: %v, %+v", err, verdict)
			}
			if err := shut.store.Plant(name+".bak", part); err != nil {
				t.Fatal(err)
			}
			if verdict, err := v.Run(t.Context()); err != nil || len(verdict.Faults) != 2 || path.Base(verdict.Faults[0].File) != path.Base(name)+".bak" {
				t.Errorf("a part that was renamed: %v, %+v", err, verdict)
			}
			break
		}
	}
}

// An identity file that cannot be used ends a verify; one with other keys is said.
func TestVerifyWithOtherKeys(t *testing.T) {
	s := wholeArchive(t, stored.Zstd.Sealed())
	v := s.verifier()
	v.Keys = crypt.NewKeys("/nowhere/key.txt")
	if _, err := v.Run(t.Context()); !errors.Is(err, crypt.ErrIdentity) {
		t.Errorf("no such file: %v", err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	v.Keys = crypt.KeysOf(other)
	verdict, err := v.Run(t.Context())
	if err != nil || len(verdict.Faults) > 0 || len(verdict.Warnings) != 1 || !strings.Contains(verdict.Warnings[0], "no key in") {
		t.Errorf("other keys: %v, %+v", err, verdict)
	}
}

// What a header tells of a history is a history, without what people wrote; and
// what it tells of a label is a label.
func TestToldOf(t *testing.T) {
	for _, version := range []string{"9.0", "15", small} {
		text := fixture(t, version, fork2)
		all, err := walname.ParseHistory(2, text)
		if err != nil {
			t.Fatal(err)
		}
		part, err := walname.ParseHistory(2, told(walname.KindHistory, 2, text))
		if err != nil || len(part.Ancestors) != len(all.Ancestors) {
			t.Fatalf("%s: %+v, %v", version, part, err)
		}
		for i, a := range all.Ancestors {
			if a.Reason = ""; part.Ancestors[i] != a {
				t.Errorf("%s: %+v is told as %+v", version, a, part.Ancestors[i])
			}
		}
	}
	text := fixture(t, small, "000000010000000000000008.00000028.backup")
	all, err := walname.ParseBackupLabel(text)
	if err != nil {
		t.Fatal(err)
	}
	part, err := walname.ParseBackupLabel(told(walname.KindBackup, 1, text))
	if err != nil || part.Start != all.Start || part.StartSegment != all.StartSegment || part.Stop != all.Stop || part.StopSegment != all.StopSegment || part.Label != "" {
		t.Errorf("%+v is told as %+v, %v", all, part, err)
	}
	for kind, text := range map[walname.Kind]string{walname.KindSegment: string(text), walname.KindHistory: "none", walname.KindBackup: "none"} {
		if got := told(kind, 2, []byte(text)); got != nil {
			t.Errorf("%v: %q is told", kind, got)
		}
	}
}
