package walpage

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"walship/walname"
)

// fixture is a line of testdata/headers.tsv.
type fixture struct {
	major    string // of PG_VERSION
	file     string
	segment  walname.Segment
	systemID uint64
	geometry walname.Geometry
	page     []byte
}

func fixtures(t testing.TB) []fixture {
	t.Helper()
	data, err := os.ReadFile("testdata/headers.tsv")
	if err != nil {
		t.Fatal(err)
	}
	var all []fixture
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		col := strings.Split(strings.TrimSpace(line), "\t")
		name, err1 := walname.Parse(strings.TrimSuffix(col[1], ".other-node"))
		id, err2 := strconv.ParseUint(col[2], 10, 64)
		size, err3 := strconv.ParseInt(col[3], 10, 64)
		page, err4 := hex.DecodeString(col[4])
		major, _, _ := strings.Cut(strings.TrimSuffix(col[0], "alpha1"), "_")
		g, err5 := walname.NewGeometry(size, major < "9.3" && major >= "9.0")
		if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, fixture{major, col[0] + "/" + col[1], name.Segment, id, g, page})
	}
	if len(all) < 100 {
		t.Fatalf("only %d headers in testdata", len(all))
	}
	return all
}

// Every segment of a real server reads as what that server is and agrees with
// its name, whichever bits Info has besides.
func TestRealSegments(t *testing.T) {
	majors := map[string]bool{}
	lower, continued := 0, 0
	for _, f := range fixtures(t) {
		h, err := Parse(f.page)
		if err != nil {
			t.Errorf("%s: %v", f.file, err)
			continue
		}
		if err := h.Check(f.segment, f.geometry, f.systemID); err != nil {
			t.Errorf("%s: %v", f.file, err)
		}
		if !h.Known() || h.Major() != f.major {
			t.Errorf("%s: Major() = %q, Known() = %v", f.file, h.Major(), h.Known())
		}
		if h.SystemID != f.systemID || int64(h.SegmentSize) != f.geometry.SegmentSize || h.BlockSize != 8192 || !h.Long {
			t.Errorf("%s: %+v", f.file, h)
		}
		majors[h.Major()] = true
		if h.Timeline < f.segment.Timeline {
			lower++
		}
		if h.Info&1 != 0 {
			continued++
		}
	}
	if len(majors) != 16 {
		t.Errorf("headers of %d major versions, want 16", len(majors))
	}
	if lower == 0 || continued == 0 {
		t.Errorf("no segment with a lower timeline (%d) or a continued record (%d): the table has lost its point", lower, continued)
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, f := range fixtures(t) {
		good, err := Parse(f.page)
		if err != nil {
			t.Fatal(err)
		}
		big, err := walname.NewGeometry(f.geometry.SegmentSize*2, f.geometry.SkipFF)
		if err != nil {
			t.Fatal(err)
		}
		next, _ := f.geometry.Next(f.segment)
		log := f.segment
		log.Log++
		none := f.segment
		none.Seg += 1 << 12
		for _, c := range []struct {
			what   string
			change func(h *Header)
			name   walname.Segment
			g      walname.Geometry
			id     uint64
			want   string
		}{
			{"short header", func(h *Header) { h.Long = false }, f.segment, f.geometry, f.systemID, "long header"},
			{"system id", nil, f.segment, f.geometry, f.systemID + 1, "system identifier is " + strconv.FormatUint(f.systemID, 10)},
			{"segment size", nil, f.segment, big, f.systemID, "segment size is"},
			{"next segment", nil, next, f.geometry, f.systemID, "page address is " + good.PageAddr.String() + ", expected " + f.geometry.Start(next).String()},
			{"next log", nil, log, f.geometry, f.systemID, "page address"},
			{"no such segment", func(h *Header) { h.PageAddr = f.geometry.Start(none) }, none, f.geometry, f.systemID, none.String()},
			{"timeline 0", func(h *Header) { h.Timeline = 0 }, f.segment, f.geometry, f.systemID, "timeline is 0"},
			{"later timeline", func(h *Header) { h.Timeline = f.segment.Timeline + 1 }, f.segment, f.geometry, 0, "timeline is"},
		} {
			h := good
			if c.change != nil {
				c.change(&h)
			}
			err := h.Check(c.name, c.g, c.id)
			if !errors.Is(err, ErrMismatch) || errors.Is(err, ErrMagic) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %s: got %v, want a mismatch with %q", f.file, c.what, err, c.want)
			}
		}
		if err := good.Check(f.segment, f.geometry, 0); err != nil {
			t.Errorf("%s: without a system identifier: %v", f.file, err)
		}
	}
}

func TestUnknownMagic(t *testing.T) {
	f := fixtures(t)[0]
	for _, c := range []struct {
		magic uint16
		want  string
	}{
		{0, "0x0000"},
		{0xD063, "not WAL"},
		{0xD072, "not WAL"},
		{0xD119, "0xD119"},
		{0xD11F, "not WAL"},
		{0xFFFF, "not WAL"},
		{0x10D1, "PostgreSQL 15 from a big-endian machine"},
		{0x64D0, "PostgreSQL 9.0 from a big-endian machine"},
	} {
		page := bytes.Clone(f.page)
		binary.LittleEndian.PutUint16(page, c.magic)
		h, err := Parse(page)
		if err != nil {
			t.Fatal(err)
		}
		// Everything else is wrong as well: an unknown magic comes first.
		err = h.Check(walname.Segment{}, f.geometry, 1)
		if !errors.Is(err, ErrMagic) || errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("magic %04X: %v", c.magic, err)
		}
		if h.Known() || h.Major() != "" {
			t.Errorf("magic %04X: Known() = %v, Major() = %q", c.magic, h.Known(), h.Major())
		}
	}
}

// A magic of a later server is read in the layout of 9.3 and later.
func TestNewerMagicLayout(t *testing.T) {
	for _, f := range fixtures(t) {
		if f.major != "18" {
			continue
		}
		page := bytes.Clone(f.page)
		binary.LittleEndian.PutUint16(page, 0xD120)
		h, err := Parse(page)
		if err != nil || h.SystemID != f.systemID || h.PageAddr != f.geometry.Start(f.segment) {
			t.Errorf("%s: %+v, %v", f.file, h, err)
		}
	}
}

// Fits recognizes the rest of a header behind a magic that is not known, and Old
// the layout that it is read in.
func TestFitsAndOld(t *testing.T) {
	for _, f := range fixtures(t) {
		old := f.geometry.SkipFF
		page := bytes.Clone(f.page)
		binary.LittleEndian.PutUint16(page, map[bool]uint16{true: 0xD070, false: 0xD120}[old])
		h, err := Parse(page)
		if err != nil || h.Known() || h.Old() != old {
			t.Errorf("%s: %+v, Old() = %v, %v", f.file, h, h.Old(), err)
		}
		if !h.Fits(f.segment, f.geometry, f.systemID) {
			t.Errorf("%s: %+v does not fit", f.file, h)
		}
		next, _ := f.geometry.Next(f.segment)
		half := walname.Geometry{SegmentSize: f.geometry.SegmentSize / 2, SkipFF: old}
		short := h
		short.Long = false
		if h.Fits(next, f.geometry, f.systemID) || h.Fits(f.segment, f.geometry, f.systemID+1) ||
			h.Fits(f.segment, half, f.systemID) || short.Fits(f.segment, f.geometry, f.systemID) {
			t.Errorf("%s: %+v fits what it is not", f.file, h)
		}
	}
}

func TestParseShort(t *testing.T) {
	page := fixtures(t)[0].page
	for n := range MinLen {
		if _, err := Parse(page[:n]); err == nil {
			t.Errorf("%d bytes: no error", n)
		}
	}
	if _, err := Parse(page[:MinLen]); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	all := fixtures(f)
	for i := 0; i < len(all); i += 7 {
		f.Add(all[i].page, uint32(1), uint32(0), all[i].segment.Seg)
	}
	g, err := walname.NewGeometry(walname.DefaultSegmentSize, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, page []byte, tl, log, seg uint32) {
		h, err := Parse(page)
		if (err == nil) != (len(page) >= MinLen) {
			t.Fatalf("%d bytes: %v", len(page), err)
		}
		if !h.Long && (h.SystemID != 0 || h.SegmentSize != 0 || h.BlockSize != 0) {
			t.Fatalf("fields of a long header without one: %+v", h)
		}
		name := walname.Segment{Timeline: walname.Timeline(tl), Log: log, Seg: seg}
		switch err := h.Check(name, g, 0); {
		case err == nil:
			if !h.Known() || h.PageAddr != g.Start(name) || h.Timeline == 0 || h.Timeline > name.Timeline {
				t.Fatalf("accepted %+v as %s", h, name)
			}
		case errors.Is(err, ErrMagic) == errors.Is(err, ErrMismatch), errors.Is(err, ErrMagic) == h.Known():
			t.Fatalf("%+v: %v", h, err)
		}
	})
}
