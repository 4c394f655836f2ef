package hugepage

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// Where the system has huge pages for who asks, the first touch of 32 MB is some
// sixteen page faults and not 8,192.
func TestAdvise(t *testing.T) {
	setting, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	most := int64(2000)
	if err != nil || strings.Contains(string(setting), "[never]") { // then it must at least do no harm
		most = 10_000
	}
	faults := func(advised bool) int64 {
		// The heap might give what was touched before.
		b, err := syscall.Mmap(-1, 0, 32<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Munmap(b) }()
		if advised {
			Advise(b)
		}
		var before, after syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
		touch(b)
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		return after.Minflt - before.Minflt
	}
	without, with := faults(false), faults(true)
	for range 2 { // a system short of them may have had none just then
		with = min(with, faults(true))
	}
	t.Logf("%d page faults without, %d with", without, with)
	if with > most {
		t.Errorf("%d page faults", with)
	}
}

// The race detector's notes of what is written are pages as well.
//
//go:norace
func touch(b []byte) {
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
}
