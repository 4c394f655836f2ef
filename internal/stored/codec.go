package stored

import (
	"fmt"
	"strings"
)

// Codec is how content is stored.
type Codec string

// The codecs, by the names that the configuration uses. LZ4 is only read: other
// tools leave such files.
const (
	Zstd  Codec = "zstd"
	Gzip  Codec = "gzip"
	Plain Codec = "none"
	LZ4   Codec = "lz4"
)

// ParseCodec accepts the codecs that can be written.
func ParseCodec(name string) (Codec, error) {
	switch c := Codec(name); c {
	case Zstd, Gzip, Plain:
		return c, nil
	}
	return "", fmt.Errorf("unknown codec %q (zstd, gzip or none)", name)
}

// Extension is what a stored file's name ends in, with the dot.
func (c Codec) Extension() string {
	switch c {
	case Zstd:
		return ".zst"
	case Gzip:
		return ".gz"
	case LZ4:
		return ".lz4"
	}
	return ""
}

// Written lists the codecs that walship writes, Foreign all that it reads.
// Plain comes last: its extension fits every name.
func Written() []Codec { return []Codec{Zstd, Gzip, Plain} }

// Foreign lists the codecs in which other tools leave WAL.
func Foreign() []Codec { return []Codec{Zstd, Gzip, LZ4, Plain} }

// Extensions lists the extensions of codecs.
func Extensions(codecs []Codec) []string {
	var e []string
	for _, c := range codecs {
		e = append(e, c.Extension())
	}
	return e
}

// CodecOf tells from a name how the file is stored.
func CodecOf(name string) Codec {
	for _, c := range []Codec{Zstd, Gzip, LZ4} {
		if strings.HasSuffix(name, c.Extension()) {
			return c
		}
	}
	return Plain
}
