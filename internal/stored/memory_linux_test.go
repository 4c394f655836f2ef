//go:build !race

// The race detector takes memory of its own, several times what is measured.

package stored

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A segment of 1 GiB is streamed: a process of its own encodes one that does not
// compress and decodes one that does.
func TestMemory(t *testing.T) {
	const size = 1 << 30
	if path := os.Getenv("WALSHIP_TEST_MEMORY"); path != "" {
		if err := Encode(io.LimitReader(&repeat{block: random(1 << 20)}, size), Zstd, size).WriteTo(failingWriter{1 << 62}, testRecord, Seal{}); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		c, err := Decode(f, info.Size(), Zstd, size, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, c); err != nil || n != size {
			t.Fatalf("%d bytes, %v", n, err)
		}
		// Not the parent's rusage: that begins with the parent's own peak.
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				fmt.Println("peak", kib)
			}
		}
		return
	}
	path := filepath.Join(t.TempDir(), "file.zst")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Encode(io.LimitReader(&repeat{block: make([]byte, 1<<20)}, size), Zstd, size).WriteTo(f, testRecord, Seal{}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestMemory$")
	cmd.Env = append(os.Environ(), "WALSHIP_TEST_MEMORY="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var kib int
	if _, err := fmt.Sscanf(string(out), "peak %d kB", &kib); err != nil || kib > 96<<10 {
		t.Errorf("took %d KiB of memory, %v: %s", kib, err, out)
	}
}

// repeat reads one block over and over.
type repeat struct {
	block []byte
	rest  bytes.Reader
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.rest.Len() == 0 {
		r.rest.Reset(r.block)
	}
	return r.rest.Read(p)
}
