package stored

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"filippo.io/age"

	"walship/internal/crypt"
)

// An encrypted file is one of age's (age-encryption.org/v1). The record is the
// first stanza of its header, one line of 504 bytes whose last argument pads it;
// its body is empty. age -d passes over stanzas that it does not know, and the
// header's MAC covers them:
//
//	age-encryption.org/v1
//	-> walship 1 5f3a0c11 {"name":…} .......
//
//	-> walship-told              histories and labels only: see Seal.Told
//	<base64>
//	-> X25519 …                  one for each recipient
//	…
//	--- <MAC>
//	<the nonce and the content, compressed first>
//
// The length of the line is fixed, so that the header can be written when the
// content, whose hash and size it tells, has gone out before it.
const (
	sealedIntro = "age-encryption.org/v1\n-> "
	toldStanza  = "walship-told"
	nonceSize   = 16
	macSize     = 43 // base64 of 32 bytes

	// maxTold bounds what is told of the content, in bytes.
	maxTold = 64 << 10
	// maxSealedHead bounds a header that is read without its key, in bytes.
	maxSealedHead = 1 << 20
)

// Seal is to whom content is encrypted.
type Seal struct {
	To *crypt.Recipients // nil: it is not encrypted

	// Told is what the header tells everyone of the content: where the timelines
	// fork, and which WAL a backup needs, so that the archive can be listed and
	// pruned without the key. What is longer than 64 KiB is not told.
	Told []byte
}

// sealing is the form of an encrypted file that is being written.
type sealing struct {
	front   []byte // the header without its MAC
	nonce   []byte
	key     []byte
	payload io.WriteCloser
	out     bytes.Buffer // what payload has made and was not taken yet
	sum     hash.Hash    // Record.Sealed
}

func newSealing(r Record, seal Seal) (*sealing, error) {
	line, err := r.sealedLine()
	if err != nil {
		return nil, err
	}
	recipients, labels := seal.To.Age()
	head := &headStanzas{line: line, told: seal.Told, labels: labels}
	s := &sealing{sum: sha256.New()}
	// Encrypt writes the header and the nonce at once, and the rest as it comes.
	s.payload, err = age.Encrypt(&s.out, append([]age.Recipient{head}, recipients...)...)
	if s.key = head.fileKey; err != nil {
		s.wipe()
		return nil, err
	}
	front := bytes.Clone(s.out.Bytes())
	s.out.Reset()
	at := len(front) - nonceSize - len(" \n") - macSize
	if at < len(sealedIntro)+recordSize || !bytes.HasSuffix(front[:at], []byte("\n---")) || string(front[len(sealedIntro):][:recordSize]) != line+"\n" {
		s.wipe()
		return nil, errors.New("age has written a header of an unknown form")
	}
	s.front, s.nonce = front[:at:at], front[len(front)-nonceSize:]
	s.sum.Write(s.front[len(sealedIntro)+recordSize:])
	s.sum.Write(s.nonce)
	return s, nil
}

// head returns the header with the record and the nonce behind it. Its length
// does not depend on what the record says.
func (s *sealing) head(r Record) ([]byte, error) {
	s.sum.Sum(r.Sealed[:0])
	line, err := r.sealedLine()
	if err != nil {
		return nil, err
	}
	copy(s.front[len(sealedIntro):], line)
	// As the format says: HMAC-SHA-256 of the header up to its "---", with a key
	// that HKDF-SHA-256 derives from the file key.
	key, err := hkdf.Key(sha256.New, s.key, nil, "header", sha256.Size)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	mac := hmac.New(sha256.New, key)
	mac.Write(s.front)
	b := append(bytes.Clone(s.front), ' ')
	b = base64.RawStdEncoding.AppendEncode(b, mac.Sum(nil))
	return append(append(b, '\n'), s.nonce...), nil
}

// body encrypts a piece. What does not fill a chunk of age's comes with the next.
func (s *sealing) body(piece []byte) ([]byte, error) {
	s.out.Reset()
	if _, err := s.payload.Write(piece); err != nil {
		return nil, err
	}
	return s.taken(), nil
}

func (s *sealing) end() ([]byte, error) {
	s.out.Reset()
	if err := s.payload.Close(); err != nil {
		return nil, err
	}
	return s.taken(), nil
}

// taken is what is ready to be written. It is the writer's until it asks again.
func (s *sealing) taken() []byte {
	s.sum.Write(s.out.Bytes())
	return s.out.Bytes()
}

// wipe forgets the file key.
func (s *sealing) wipe() { clear(s.key) }

// headStanzas is a recipient to whom nothing is encrypted: it puts stanzas into
// the header, and learns the file key with which the header is authenticated.
type headStanzas struct {
	line    string
	told    []byte
	labels  []string
	fileKey []byte // the very bytes that age uses, so that clearing them leaves none
}

func (h *headStanzas) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	h.fileKey = fileKey
	words := strings.Split(h.line, " ")
	stanzas := []*age.Stanza{{Type: words[0], Args: words[1:]}}
	if len(h.told) > 0 && len(h.told) <= maxTold {
		stanzas = append(stanzas, &age.Stanza{Type: toldStanza, Body: h.told})
	}
	return stanzas, nil
}

// WrapWithLabels says that it goes with the others: without their labels age
// takes it for a recipient that makes theirs worthless.
func (h *headStanzas) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	s, err := h.Wrap(fileKey)
	return s, h.labels, err
}

// sealedLine is the record as a line of age's header, without its end.
func (r Record) sealedLine() (string, error) {
	b, err := r.marshal()
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(b), " \n")
	pad := recordSize - len(text) - len(" \n")
	if pad < 1 || strings.Count(text, " ") != 3 {
		return "", fmt.Errorf("the record of %s cannot stand in a header (%d bytes)", r.Name, len(text))
	}
	return text + " " + strings.Repeat(".", pad), nil
}

// sealedRecord is the record at the front of an encrypted file, in the form that
// it has in others.
func sealedRecord(front []byte) ([]byte, error) {
	if len(front) < len(sealedIntro)+recordSize {
		return nil, fmt.Errorf("%w: it ends within its head", ErrDamaged)
	}
	line := string(front[len(sealedIntro):][:recordSize])
	at := strings.LastIndexByte(line, ' ')
	if pad := line[at+1:]; !strings.HasSuffix(pad, "\n") || strings.Trim(pad[:len(pad)-1], ".") != "" {
		return nil, fmt.Errorf("%w: its record has a wrong length", ErrDamaged)
	}
	return []byte(line[:at] + strings.Repeat(" ", recordSize-at-1) + "\n"), nil
}

// Told returns what the front of an encrypted file tells of its content, nil if
// it tells nothing. Nothing vouches for it: who has the key reads the content.
func Told(front []byte) []byte {
	rest, ok := bytes.CutPrefix(front, []byte(sealedIntro))
	if !ok || len(rest) < recordSize {
		return nil
	}
	rest, ok = bytes.CutPrefix(rest[recordSize:], []byte("\n-> "+toldStanza+"\n"))
	if !ok {
		return nil
	}
	var told []byte
	for {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok || len(told) > maxTold {
			return nil
		}
		b, err := base64.RawStdEncoding.Strict().DecodeString(string(line))
		if err != nil || len(line) > 64 {
			return nil
		}
		told, rest = append(told, b...), after
		if len(line) < 64 { // the last one always is
			return told
		}
	}
}

// unseal opens an encrypted file; others are returned as they are.
func unseal(in *bufio.Reader, codec Codec, keys *crypt.Keys) (io.Reader, error) {
	if !codec.IsSealed() {
		return in, nil
	}
	ids, err := keys.Identities()
	if err != nil {
		return nil, err
	}
	content, err := age.Decrypt(in, ids...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, fmt.Errorf("%w, and none of the identities in %s opens it", crypt.ErrNoKey, keys.Path())
	}
	if err != nil {
		return nil, readError(err)
	}
	return content, nil
}

// CheckSealed reads an encrypted file of size bytes from src whole, without its
// key. nil means that it is, but for the 43 characters of its header's MAC, what
// it was when it was stored, if it was walship that stored it: the record tells
// the SHA-256 of all the rest. Whether its content is what the record says, only
// the key tells.
func CheckSealed(src io.Reader, size int64) (Record, error) {
	in := bufio.NewReaderSize(src, 256<<10)
	front, err := in.Peek(int(min(size, HeadSize)))
	if err != nil {
		return Record{}, readError(err)
	}
	r, err := ParseHead(front, size)
	switch {
	case errors.Is(err, ErrNoRecord) || err == nil && !bytes.HasPrefix(front, []byte(sealedIntro)):
		return r, fmt.Errorf("%w: it is not encrypted as its name says, or carries no record", ErrDamaged)
	case err != nil:
		return r, err
	}
	if _, err := in.Discard(len(sealedIntro) + recordSize); err != nil {
		return r, readError(err)
	}
	sum := sha256.New()
	for n := 0; ; {
		line, err := in.ReadSlice('\n')
		if n += len(line); n > maxSealedHead {
			err = errors.New("its header has no end")
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return r, readError(err)
		}
		if mac, ok := bytes.CutPrefix(line, []byte("--- ")); ok {
			if len(mac) != macSize+1 {
				return r, fmt.Errorf("%w: its header ends in no MAC", ErrDamaged)
			}
			sum.Write([]byte("---"))
			break
		}
		sum.Write(line)
	}
	if _, err := io.Copy(sum, in); err != nil {
		return r, readError(err)
	}
	if r.Sealed != [32]byte(sum.Sum(nil)) {
		return r, fmt.Errorf("%w: it has not the SHA-256 that its record tells of the encrypted content", ErrDamaged)
	}
	return r, nil
}
