package stored

import (
	"fmt"
	"strings"
)

// Codec is how content is stored: how it is compressed, and whether it is
// encrypted then.
type Codec string

// The codecs, by the names that the configuration uses. LZ4 is only read: other
// tools leave such files.
const (
	Zstd  Codec = "zstd"
	Gzip  Codec = "gzip"
	Plain Codec = "none"
	LZ4   Codec = "lz4"
)

// encrypted ends the name of a codec whose files are encrypted with age, and
// ageExtension that of the files themselves.
const (
	encrypted    = "+age"
	ageExtension = ".age"
)

// Sealed is the codec with encryption.
func (c Codec) Sealed() Codec { return c.inner() + encrypted }

// IsSealed reports whether the files are encrypted.
func (c Codec) IsSealed() bool { return strings.HasSuffix(string(c), encrypted) }

// inner is how the content is compressed.
func (c Codec) inner() Codec { return Codec(strings.TrimSuffix(string(c), encrypted)) }

// Of is the codec of an archive's files: with recipients they are encrypted.
func Of(codec string, sealed bool) Codec {
	if sealed {
		return Codec(codec).Sealed()
	}
	return Codec(codec)
}

// ParseCodec accepts the codecs that an archive can have.
func ParseCodec(name string) (Codec, error) {
	switch c := Codec(name); c {
	case Zstd, Gzip, Plain:
		return c, nil
	}
	return "", fmt.Errorf("unknown codec %q (zstd, gzip or none)", name)
}

// Extension is what a stored file's name ends in, with the dot.
func (c Codec) Extension() string {
	if c.IsSealed() {
		return c.inner().Extension() + ageExtension
	}
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

// Written lists the codecs that walship writes. Plain comes last: its extension
// fits every name.
func Written() []Codec {
	return []Codec{Zstd, Gzip, Zstd.Sealed(), Gzip.Sealed(), Plain.Sealed(), Plain}
}

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
	if name, ok := strings.CutSuffix(name, ageExtension); ok {
		return CodecOf(name).Sealed()
	}
	for _, c := range []Codec{Zstd, Gzip, LZ4} {
		if strings.HasSuffix(name, c.Extension()) {
			return c
		}
	}
	return Plain
}
