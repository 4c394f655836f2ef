package config

import "testing"

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "0MB": 0, "1B": 1, "64kB": 64 << 10, "128MB": 128 << 20, "128 MiB": 128 << 20, "2GB": 2 << 30, "1G": 1 << 30,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "128", "MB", "-1MB", "1.5GB", "1TB", "1 M B", "9223372036854775807GB", "1iB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d and no error", text, got)
		}
	}
}
