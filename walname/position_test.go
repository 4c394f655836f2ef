package walname

import (
	"strings"
	"testing"
)

func TestTimeline(t *testing.T) {
	for s, want := range map[string]Timeline{"00000001": 1, "0000000A": 10, "FFFFFFFF": 0xFFFFFFFF, "12345678": 0x12345678} {
		tl, err := ParseTimeline(s)
		if err != nil || tl != want || tl.String() != s {
			t.Errorf("ParseTimeline(%q) = %v, %v", s, tl, err)
		}
	}
	for _, s := range []string{"", "1", "0000001", "000000001", "0000000a", "00000000", "+0000001", "0x000001", "00000001\n", " 0000001", strings.Repeat("1", 1000)} {
		tl, err := ParseTimeline(s)
		if err == nil {
			t.Errorf("ParseTimeline(%q) = %v", s, tl)
			continue
		}
		checkMessage(t, err)
	}
}

func TestLSN(t *testing.T) {
	for s, want := range map[string]LSN{
		"0/0":               0,
		"0/5000C58":         0x5000C58,
		"16/B374D848":       0x16B374D848,
		"1/0":               1 << 32,
		"0/FFFFFFFF":        1<<32 - 1,
		"FFFFFFFF/FFFFFFFF": 1<<64 - 1,
	} {
		l, err := ParseLSN(s)
		if err != nil || l != want || l.String() != s {
			t.Errorf("ParseLSN(%q) = %v, %v", s, l, err)
		}
	}
	for s, want := range map[string]LSN{"16/b374d848": 0x16B374D848, "00000016/0000A000": 0x160000A000} {
		if l, err := ParseLSN(s); err != nil || l != want {
			t.Errorf("ParseLSN(%q) = %v, %v", s, l, err)
		}
	}
	for _, s := range []string{
		"", "/", "0", "0/", "/0", "0/0/0", "0//0", " 0/0", "0/0 ", "0/0\n", "0 /0", "+0/0", "0/-1", "0x1/0", "0/0x1", "0/G", "G/0", "1_0/0",
		"000000000/0", "0/000000000", "100000000/0", "0/100000000", "0/0\x00", "0\\0", strings.Repeat("F", 1000), strings.Repeat("/", 1000),
	} {
		l, err := ParseLSN(s)
		if err == nil || l != 0 {
			t.Errorf("ParseLSN(%q) = %v, %v", s, l, err)
			continue
		}
		checkMessage(t, err)
	}
}
