package pgserver

import "encoding/binary"

// lanes is how many sums PostgreSQL computes beside each other over a page.
const lanes = 32

// laneStart is what each of them begins with, from PostgreSQL's checksum_impl.h.
var laneStart = [lanes]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// Fields of a page's header, by their offsets: pd_lsn, pd_checksum, pd_upper.
const (
	atLSN      = 0
	atChecksum = 8
	atUpper    = 14
)

// pageChecksum is the checksum that belongs into a page's header if the page is
// the block-th of its relation. The field itself counts as zero. The page is a
// multiple of 128 bytes, of a little-endian machine.
//
// It is PostgreSQL's variant of FNV-1a: 32 sums over every 32nd word each, with
// a shift that brings high bits down, two rounds of zeros at the end, all folded
// into one word, and that with the block's number into 1 to 65535.
func pageChecksum(page []byte, block uint32) uint16 {
	sums := laneStart
	first := true
	for len(page) >= lanes*4 {
		row := (*[lanes * 4]byte)(page)
		for i := range sums {
			v := binary.LittleEndian.Uint32(row[4*i : 4*i+4])
			if first && i == atChecksum/4 {
				v &= 0xFFFF0000
			}
			sums[i] = mix(sums[i], v)
		}
		first = false
		page = page[lanes*4:]
	}
	result := uint32(0)
	for _, sum := range sums {
		result ^= mix(mix(sum, 0), 0)
	}
	return uint16((result^block)%65535) + 1
}

func mix(sum, value uint32) uint32 {
	t := sum ^ value
	return t*16777619 ^ t>>17
}
