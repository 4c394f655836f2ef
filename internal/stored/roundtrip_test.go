package stored

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What is stored comes back, from walship and from the format's own tool; the
// record at its head tells what it is.
func TestRoundTrip(t *testing.T) {
	contents := map[string]func(int) []byte{
		"zero":   func(n int) []byte { return make([]byte, n) },
		"random": random,
		"text":   text,
	}
	for _, codec := range Written() {
		for _, n := range []int{0, 1, 40, 1<<20 - 1, 1 << 20, 1<<20 + 1, 16 << 20} {
			for kind, make := range contents {
				if n > 2<<20 && (kind == "text" || codec.IsSealed()) || n > 40 && codec == Gzip.Sealed() {
					continue // takes long
				}
				t.Run(fmt.Sprintf("%s/%d/%s", codec, n, kind), func(t *testing.T) {
					t.Parallel()
					content := make(n)
					roundTrip(t, codec, content)
				})
			}
		}
	}
}

func roundTrip(t *testing.T, codec Codec, content []byte) {
	file := encode(t, codec, content)
	got, err := decode(file, codec, int64(len(content)))
	if codec == Plain {
		if len(content) == 0 {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("an empty file: %v", err)
			}
			return
		}
		if !bytes.Equal(file, content) {
			t.Error("a plain file is not its content")
		}
	} else {
		want := testRecord
		want.Size, want.SHA256, want.StoredSize = int64(len(content)), sha256.Sum256(content), int64(len(file))
		r, err := ParseHead(file[:min(len(file), HeadSize)], int64(len(file)))
		if (r.Sealed != [32]byte{}) != codec.IsSealed() {
			t.Errorf("SHA-256 of the encrypted content %x", r.Sealed)
		}
		if want.Sealed = r.Sealed; err != nil || r != want {
			t.Errorf("head: %+v, %v, want %+v", r, err, want)
		}
		ownTool(t, codec, file, content)
	}
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("decoded %d bytes of %d, %v", len(got), len(content), err)
	}
	if len(content) > 0 {
		if _, err := decode(file, codec, int64(len(content))-1); !errors.Is(err, ErrDamaged) {
			t.Errorf("one byte above the limit: %v", err)
		}
	}
}

// ownTool compares what zstd -dc or gzip -dc gives.
func ownTool(t *testing.T, codec Codec, file, content []byte) {
	path := filepath.Join(t.TempDir(), "file"+codec.Extension())
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if codec.IsSealed() {
		withAge(t, path, codec.inner(), content)
		return
	}
	tool := string(codec)
	if out, err := exec.Command(tool, "-t", "-q", path).CombinedOutput(); err != nil {
		t.Errorf("%s -t: %v: %s", tool, err, out)
	}
	out, err := exec.Command(tool, "-dcq", path).Output()
	if err != nil || !bytes.Equal(out, content) {
		t.Errorf("%s -dc gives %d bytes of %d, %v", tool, len(out), len(content), err)
	}
}

// withAge compares what age -d and the format's own tool give.
func withAge(t *testing.T, path string, codec Codec, content []byte) {
	key := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(key, []byte(testIdentity+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line := "age -d -i " + key + " " + path
	if codec != Plain {
		line += " | " + string(codec) + " -dcq"
	}
	out, err := exec.Command("sh", "-c", line).Output()
	if err != nil || !bytes.Equal(out, content) {
		t.Errorf("%s gives %d bytes of %d, %v", line, len(out), len(content), err)
	}
}

// Text and zeros become smaller: they are stored compressed.
func TestCompresses(t *testing.T) {
	for _, codec := range []Codec{Zstd, Gzip} {
		if n := len(encode(t, codec, text(2<<20))); n > 1<<20 {
			t.Errorf("%s: 2 MiB of text take %d bytes", codec, n)
		}
		if n := len(encode(t, codec, make([]byte, 2<<20))); n > 16<<10 {
			t.Errorf("%s: 2 MiB of zeros take %d bytes", codec, n)
		}
	}
}

func TestCodecs(t *testing.T) {
	for name, want := range map[string]Codec{"a.zst.age": Zstd.Sealed(), "a.gz.age": Gzip.Sealed(), "a.age": Plain.Sealed(), "a.zst.age.gz": Gzip, "a.zst": Zstd, "a.gz": Gzip, "a.lz4": LZ4, "a": Plain, "a.partial": Plain, "zst": Plain} {
		if got := CodecOf(name); got != want {
			t.Errorf("CodecOf(%q) = %s, want %s", name, got, want)
		}
	}
	for _, codec := range Written() {
		if got, err := ParseCodec(string(codec)); !codec.IsSealed() && (got != codec || err != nil) {
			t.Errorf("ParseCodec(%q) = %q, %v", codec, got, err)
		}
		if got := CodecOf("a" + codec.Extension()); got != codec {
			t.Errorf("%s: the codec of its extension %q is %s", codec, codec.Extension(), got)
		}
	}
	for _, name := range []string{"", "lz4", "Zstd", "zst", "zstd+age"} {
		if _, err := ParseCodec(name); err == nil {
			t.Errorf("ParseCodec(%q) is accepted", name)
		}
	}
	if e := Extensions(Foreign()); e[len(e)-1] != "" {
		t.Errorf("the extension that fits every name is not the last: %q", e)
	}
}
