package walname

import (
	"fmt"
	"math"
)

// Sizes of segments, bytes. The size is fixed by initdb (11 and later) or when
// PostgreSQL is built, and is a power of two.
const (
	MinSegmentSize     = 1 << 20
	MaxSegmentSize     = 1 << 30
	DefaultSegmentSize = 16 << 20
)

const (
	logSize           = 1 << 32 // bytes that one value of Segment.Log stands for
	maxSegmentsPerLog = logSize / MinSegmentSize
)

// Segment is one file of the write-ahead log, as its name tells it. Which bytes
// it holds depends on the segment size: see [Geometry].
type Segment struct {
	Timeline Timeline
	Log      uint32 // high half of the addresses of its bytes
	Seg      uint32 // which segment of those 4 GB
}

// String returns the 24 digits of the file's name.
func (s Segment) String() string {
	return fmt.Sprintf("%08X%08X%08X", uint32(s.Timeline), s.Log, s.Seg)
}

// Geometry is how a cluster cuts its write-ahead log into segments. Use what
// [NewGeometry] returns; with a size that it refuses the methods may panic.
type Geometry struct {
	SegmentSize int64 // bytes

	// SkipFF tells that the last segment of each 4 GB is never used, so that
	// …FE is followed by the next log's 00: PostgreSQL 9.0 to 9.2.
	SkipFF bool
}

// NewGeometry returns a Geometry, or an error if size is no power of two from
// MinSegmentSize to MaxSegmentSize.
func NewGeometry(size int64, skipFF bool) (Geometry, error) {
	if size < MinSegmentSize || size > MaxSegmentSize || size&(size-1) != 0 {
		return Geometry{}, fmt.Errorf("segment size %d is not a power of two from 1 MB to 1 GB", size)
	}
	return Geometry{SegmentSize: size, SkipFF: skipFF}, nil
}

// perLog returns how many segments of each log are used.
func (g Geometry) perLog() uint64 {
	n := uint64(logSize / g.SegmentSize)
	if g.SkipFF {
		n--
	}
	return n
}

// last returns the number of the last segment of the address space.
func (g Geometry) last() uint64 { return g.perLog()<<32 - 1 }

// Check returns an error if a cluster of this geometry has no such segment: its
// number is not within the log, it is the skipped one, or its timeline is 0.
func (g Geometry) Check(s Segment) error {
	switch n := g.perLog(); {
	case s.Timeline == 0:
		return fmt.Errorf("segment %s: there is no timeline 0", s)
	case g.SkipFF && uint64(s.Seg) == n:
		return fmt.Errorf("segment %s: PostgreSQL 9.0 to 9.2 never use the last segment of a log", s)
	case uint64(s.Seg) >= n:
		return fmt.Errorf("segment %s: with segments of %d bytes the last eight digits are at most %08X", s, g.SegmentSize, n-1)
	}
	return nil
}

// Number returns the place of s in its timeline, counted from 0: segments that
// follow each other have consecutive numbers, also across a skipped one. It is
// meaningless for what Check refuses.
func (g Geometry) Number(s Segment) uint64 {
	return uint64(s.Log)*g.perLog() + uint64(s.Seg)
}

// FromNumber returns the segment of that number, the inverse of Number. Beyond
// the end of the address space it returns the zero Segment, which Check refuses.
func (g Geometry) FromNumber(tl Timeline, n uint64) Segment {
	if n > g.last() {
		return Segment{}
	}
	return Segment{tl, uint32(n / g.perLog()), uint32(n % g.perLog())}
}

// Start returns the position of the first byte of s. It is meaningless for what
// Check refuses.
func (g Geometry) Start(s Segment) LSN {
	return LSN(s.Log)<<32 + LSN(s.Seg)*LSN(g.SegmentSize)
}

// End returns the position one past the last byte of s, where nothing lies if
// the segment that follows there is skipped. Past the very last byte of the
// address space there is no position: End is then that byte's own. It is
// meaningless for what Check refuses.
func (g Geometry) End(s Segment) LSN {
	if end := g.Start(s) + LSN(g.SegmentSize); end != 0 {
		return end
	}
	return math.MaxUint64
}

// Next returns the segment that follows s on its timeline; false if s is the
// last of the address space or Check refuses it.
func (g Geometry) Next(s Segment) (Segment, bool) {
	n := g.Number(s)
	if g.Check(s) != nil || n == g.last() {
		return Segment{}, false
	}
	return g.FromNumber(s.Timeline, n+1), true
}

// Prev returns the segment before s on its timeline; false if s is the first of
// the address space or Check refuses it.
func (g Geometry) Prev(s Segment) (Segment, bool) {
	n := g.Number(s)
	if g.Check(s) != nil || n == 0 {
		return Segment{}, false
	}
	return g.FromNumber(s.Timeline, n-1), true
}

// At returns the segment that holds the byte at l. A position in a skipped
// segment, where WAL ends when …FE is full, holds none: the next byte of WAL is
// the first of the next log, and At returns that log's first segment. So At of
// the End of a segment is its Next. Where there is no next log, it is the last
// segment of the address space.
func (g Geometry) At(tl Timeline, l LSN) Segment {
	log, seg := uint64(l>>32), uint64(l%logSize)/uint64(g.SegmentSize)
	return g.FromNumber(tl, min(log*g.perLog()+seg, g.last()))
}
