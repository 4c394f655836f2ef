package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes with a unit, such as "128MB" or "1GiB". As in
// PostgreSQL a kB is 1,024 bytes, an MB 1,024 kB and a GB 1,024 MB, and kiB, MiB
// and GiB are the same.
func ParseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "kKMGiBb ")
	unit := strings.TrimSpace(text[len(number):])
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("not a size, want for example 64MB or 1GB")
	}
	factor, ok := map[string]int64{
		"B": 1, "kB": 1 << 10, "KB": 1 << 10, "kiB": 1 << 10, "KiB": 1 << 10,
		"MB": 1 << 20, "MiB": 1 << 20, "M": 1 << 20, "GB": 1 << 30, "GiB": 1 << 30, "G": 1 << 30,
	}[unit]
	switch {
	case !ok && n == 0 && unit == "":
		return 0, nil
	case !ok:
		return 0, errors.New("a size needs a unit: B, kB, MB or GB")
	case n > math.MaxInt64/factor:
		return 0, errors.New("too large")
	}
	return n * factor, nil
}
