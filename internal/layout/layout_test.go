package layout

import (
	"testing"

	"walship/walname"
)

func name(t *testing.T, s string) walname.Name {
	n, err := walname.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStem(t *testing.T) {
	for s, want := range map[string]string{
		"000000010000000A000000FE":                 "7710881423084713556/wal/000000010000000A/000000010000000A000000FE",
		"000000010000000A000000FE.partial":         "7710881423084713556/wal/000000010000000A/000000010000000A000000FE.partial",
		"000000010000000A000000FE.00000028.backup": "7710881423084713556/wal/000000010000000A/000000010000000A000000FE.00000028.backup",
		"0000000A.history":                         "7710881423084713556/history/0000000A.history",
	} {
		if got := testCluster.Stem(name(t, s)); got != want {
			t.Errorf("Stem(%s) = %s, want %s", s, got, want)
		}
	}
}

func TestRefusedNames(t *testing.T) {
	n, sum := name(t, "000000010000000A000000FE.partial"), [32]byte{0xde, 0xad, 0xbe, 0xef, 1}
	if got, want := testCluster.OtherPartial(n, sum), "7710881423084713556/wal/000000010000000A/000000010000000A000000FE.deadbeef.partial"; got != want {
		t.Errorf("OtherPartial: %s, want %s", got, want)
	}
	if got, want := testCluster.SetAside(n, sum), "7710881423084713556/refused/000000010000000A000000FE.partial.deadbeef"; got != want {
		t.Errorf("SetAside: %s, want %s", got, want)
	}
	if got, want := testCluster.Damaged(testCluster.Stem(n)+".zst", "01"), "7710881423084713556/refused/000000010000000A000000FE.partial.zst.01.damaged"; got != want {
		t.Errorf("Damaged: %s, want %s", got, want)
	}
	// No listing takes one of them for a WAL file of its own name.
	for _, base := range []string{"000000010000000A000000FE.deadbeef.partial.zst", "000000010000000A000000FE.partial.zst.01.damaged", "000000010000000A000000FE.deadbeef.zst"} {
		if n, ok := ParseStored(base, []string{".zst", ".gz", ""}); ok {
			t.Errorf("%s is taken for %s", base, n)
		}
	}
}

func TestFolders(t *testing.T) {
	want := []string{"7710881423084713556", "7710881423084713556/wal", "7710881423084713556/history", "7710881423084713556/base",
		"7710881423084713556/refused", "7710881423084713556/tmp"}
	got := testCluster.Folders()
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("folder %d: %s, want %s", i, got[i], want[i])
		}
	}
	if got := testCluster.IdentityFile(); got != "7710881423084713556/walship.json" {
		t.Error(got)
	}
}

func TestParseFolder(t *testing.T) {
	for s, ok := range map[string]bool{
		"7710881423084713556": true, "18446744073709551615": true, "1": true,
		"0": false, "": false, "01": false, "+1": false, "-1": false, "1_0": false, "0x1": false, " 1": false,
		"18446744073709551616": false, "wal": false, "lost+found": false, "0000000100000000": false,
	} {
		if c, got := ParseFolder(s); got != ok || ok && c.Folder() != s {
			t.Errorf("ParseFolder(%q) = %v, %v", s, c, got)
		}
	}
}

func TestParseStored(t *testing.T) {
	known := []string{".zst", ".gz", ""}
	for base, want := range map[string]string{
		"000000010000000A000000FE.zst":         "000000010000000A000000FE",
		"000000010000000A000000FE":             "000000010000000A000000FE",
		"000000010000000A000000FE.partial.gz":  "000000010000000A000000FE.partial",
		"00000002.history.zst":                 "00000002.history",
		"000000010000000A000000FE.lz4":         "",
		"000000010000000A000000FE.zst.zst":     "",
		"000000010000000a000000fe.zst":         "",
		"000000010000000A000000FE.tmp":         "",
		"xlogtemp.12":                          "",
		".zst":                                 "",
		"000000010000000A000000FE.partial.zst": "000000010000000A000000FE.partial",
	} {
		n, ok := ParseStored(base, known)
		if ok != (want != "") || ok && n.String() != want {
			t.Errorf("ParseStored(%q) = %v, %v, want %q", base, n, ok, want)
		}
	}
}
