package walname

import (
	"fmt"
	"math"
	"testing"
)

// geometries calls f for each segment size with and without a skipped segment.
func geometries(t *testing.T, f func(t *testing.T, g Geometry)) {
	sizes := 0
	for size := int64(MinSegmentSize); size <= MaxSegmentSize; size *= 2 {
		sizes++
		for _, skip := range []bool{false, true} {
			g, err := NewGeometry(size, skip)
			if err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprintf("%dMB,skip=%v", size>>20, skip), func(t *testing.T) { f(t, g) })
		}
	}
	if sizes != 11 {
		t.Fatalf("%d segment sizes, want 11", sizes)
	}
}

// used returns how many segments of each log g uses, counted independently of
// the code under test.
func used(g Geometry) uint32 {
	n := uint32(0)
	for at := int64(0); at < 1<<32; at += g.SegmentSize {
		n++
	}
	if g.SkipFF {
		n--
	}
	return n
}

// samples are segments at and around the edges of logs and the address space.
func samples(g Geometry) []Segment {
	var all []Segment
	n := used(g)
	for _, log := range []uint32{0, 1, 2, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF} {
		for _, seg := range []uint32{0, 1, n / 2, n - 2, n - 1} {
			all = append(all, Segment{3, log, seg})
		}
	}
	return all
}

func TestNewGeometryRefuses(t *testing.T) {
	for _, size := range []int64{math.MinInt64, -16 << 20, -1, 0, 1, 8192, 1 << 19, 1<<20 - 1, 1<<20 + 1, 3 << 20, 15 << 20, 1<<30 + 1, 3 << 29, 1 << 31, 1 << 32, math.MaxInt64} {
		if g, err := NewGeometry(size, false); err == nil || g != (Geometry{}) {
			t.Errorf("NewGeometry(%d) = %+v, %v", size, g, err)
		}
	}
}

// Every segment of three whole logs, in order, also of the last three of all.
func TestConsecutive(t *testing.T) {
	geometries(t, func(t *testing.T, g Geometry) {
		for _, first := range []uint32{0, 0x7FFFFFFF, 0xFFFFFFFD} {
			prev := Segment{7, first, 0}
			for i := range uint32(3) {
				for seg := range used(g) {
					s := Segment{7, first + i, seg}
					if s == prev {
						continue
					}
					if next, ok := g.Next(prev); !ok || next != s {
						t.Fatalf("Next(%s) = %s, %v, want %s", prev, next, ok, s)
					}
					if back, ok := g.Prev(s); !ok || back != prev {
						t.Fatalf("Prev(%s) = %s, %v, want %s", s, back, ok, prev)
					}
					if g.Number(s) != g.Number(prev)+1 {
						t.Fatalf("number of %s is %d, of %s %d", prev, g.Number(prev), s, g.Number(s))
					}
					if got := g.FromNumber(7, g.Number(s)); got != s {
						t.Fatalf("FromNumber(Number(%s)) = %s", s, got)
					}
					if err := g.Check(s); err != nil {
						t.Fatal(err)
					}
					prev = s
				}
			}
		}
	})
}

func TestBytesOfASegment(t *testing.T) {
	geometries(t, func(t *testing.T, g Geometry) {
		size := LSN(g.SegmentSize)
		for _, s := range samples(g) {
			start, end := g.Start(s), g.End(s)
			if start != LSN(s.Log)<<32|LSN(s.Seg)*size {
				t.Errorf("Start(%s) = %s", s, start)
			}
			lastByte := start + (size - 1)
			if lastByte == math.MaxUint64 {
				if end != math.MaxUint64 {
					t.Errorf("End(%s) = %s, want the last byte of all", s, end)
				}
			} else if end != lastByte+1 {
				t.Errorf("End(%s) = %s, want %s", s, end, lastByte+1)
			}
			for _, l := range []LSN{start, start + 1, start + size/2, lastByte} {
				if at := g.At(3, l); at != s {
					t.Errorf("At(%s) = %s, want %s", l, at, s)
				}
			}
			if next, ok := g.Next(s); ok {
				if at := g.At(3, end); at != next {
					t.Errorf("At(End(%s)) = %s, want %s", s, at, next)
				}
				if !g.SkipFF && g.Start(next) != end {
					t.Errorf("%s ends at %s, %s starts at %s", s, end, next, g.Start(next))
				}
			}
			if prev, ok := g.Prev(s); ok && start > 0 {
				want := prev
				if g.SkipFF && s.Seg == 0 {
					want = s // the byte before is in the skipped segment
				}
				if at := g.At(3, start-1); at != want {
					t.Errorf("At(%s) = %s, want %s", start-1, at, want)
				}
			}
		}
	})
}

func TestEnds(t *testing.T) {
	geometries(t, func(t *testing.T, g Geometry) {
		first, last := Segment{5, 0, 0}, Segment{5, 0xFFFFFFFF, used(g) - 1}
		if s, ok := g.Prev(first); ok || s != (Segment{}) {
			t.Errorf("Prev(%s) = %s, %v", first, s, ok)
		}
		if s, ok := g.Next(last); ok || s != (Segment{}) {
			t.Errorf("Next(%s) = %s, %v", last, s, ok)
		}
		if n := g.Number(first); n != 0 {
			t.Errorf("Number(%s) = %d", first, n)
		}
		for _, beyond := range []uint64{g.Number(last) + 1, g.Number(last) + 2, 1 << 62, math.MaxUint64} {
			if s := g.FromNumber(5, beyond); s != (Segment{}) {
				t.Errorf("FromNumber(%d) = %s, want none", beyond, s)
			}
		}
		if s := g.At(5, math.MaxUint64); s != last {
			t.Errorf("At the very last byte: %s, want %s", s, last)
		}
		if s := g.At(5, g.End(last)); s != last {
			t.Errorf("At(End(%s)) = %s", last, s)
		}
	})
}

func TestCheckRefuses(t *testing.T) {
	geometries(t, func(t *testing.T, g Geometry) {
		n := used(g)
		bad := []Segment{{}, {0, 1, 1}, {1, 0, n}, {1, 0, n + 1}, {1, 0, n + 2}, {1, 0xFFFFFFFF, n}, {1, 0, 0xFFFFFFFF}}
		for _, s := range bad {
			if err := g.Check(s); err == nil {
				t.Errorf("Check(%s) = nil", s)
			}
			if got, ok := g.Next(s); ok || got != (Segment{}) {
				t.Errorf("Next(%s) = %s, %v", s, got, ok)
			}
			if got, ok := g.Prev(s); ok || got != (Segment{}) {
				t.Errorf("Prev(%s) = %s, %v", s, got, ok)
			}
		}
	})
}

func TestSkippedSegment(t *testing.T) {
	old, _ := NewGeometry(DefaultSegmentSize, true)
	for _, c := range []struct {
		l    LSN
		want Segment
	}{
		{0x0_FEFFFFFF, Segment{1, 0, 0xFE}},
		{0x0_FF000000, Segment{1, 1, 0}}, // …FE is full
		{0x0_FFFFFFFF, Segment{1, 1, 0}},
		{0x1_00000000, Segment{1, 1, 0}},
		{0xFFFFFFFF_FF000000, Segment{1, 0xFFFFFFFF, 0xFE}}, // nothing follows
	} {
		if got := old.At(1, c.l); got != c.want {
			t.Errorf("At(%s) = %s, want %s", c.l, got, c.want)
		}
	}
	if next, ok := old.Next(Segment{1, 0, 0xFE}); !ok || next != (Segment{1, 1, 0}) {
		t.Errorf("after 0000000100000000000000FE comes %s", next)
	}
	if err := old.Check(Segment{1, 0, 0xFF}); err == nil {
		t.Error("0000000100000000000000FF is accepted for 9.0 to 9.2")
	}
	current, _ := NewGeometry(DefaultSegmentSize, false)
	if next, ok := current.Next(Segment{1, 0, 0xFE}); !ok || next != (Segment{1, 0, 0xFF}) {
		t.Errorf("after 0000000100000000000000FE comes %s", next)
	}
}
