package pgserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"walship/internal/basebackup"
	"walship/internal/lazyre"
	"walship/transport"
	"walship/walname"
)

// verifier checks the pages of relations against their checksums while their
// files are read. nil checks nothing.
type verifier struct {
	start    walname.LSN // pages that were written since are made good by replay
	block    int         // bytes in a page
	relation int64       // pages in a file of a relation

	// again reads a page that looks damaged once more, into page. It may have been
	// read while it was being written. false: it cannot be read again, or is gone.
	again rereader

	entry basebackup.Entry
	first uint32 // number in its relation of the file's first page
	on    bool
	at    int64  // offset of the page that is being gathered
	page  []byte // its beginning
	found []string
	more  int
}

// rereader reads the page at an offset of the entry again, for the try-th time
// from 0.
type rereader func(e basebackup.Entry, at int64, try int, page []byte) (bool, error)

func (b *common) newVerifier(again rereader) *verifier {
	return &verifier{start: b.info.StartLSN, block: int(b.block), relation: b.relation, again: again, page: make([]byte, 0, b.block)}
}

// relationFile matches the name of a file of a relation: 16384, 16384.1, 16384_vm.
var relationFile = lazyre.MustCompile(`^[0-9]+(?:_(?:fsm|vm|init))?(?:\.([0-9]+))?$`)

// segmentOf returns the number of the relation's file that the path names, and
// whether it names one that has pages with checksums.
func segmentOf(e basebackup.Entry) (int64, bool) {
	if e.Type != basebackup.Regular || e.ServerManifest {
		return 0, false
	}
	dir, name := path.Split(e.Path)
	parts := strings.Split(strings.TrimSuffix(dir, "/"), "/")
	switch {
	case e.Tablespace == 0 && len(parts) == 1 && parts[0] == "global":
	case e.Tablespace == 0 && len(parts) == 2 && parts[0] == "base":
	case e.Tablespace != 0 && len(parts) == 2:
	default:
		return 0, false
	}
	m := relationFile().FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	if m[1] == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(m[1], 10, 32)
	return n, err == nil
}

// begin goes on to the next entry.
func (v *verifier) begin(e basebackup.Entry) {
	if v == nil {
		return
	}
	segment, ok := segmentOf(e)
	v.entry, v.on, v.at, v.page = e, ok, 0, v.page[:0]
	v.found, v.more = nil, 0
	v.first = uint32(segment * v.relation)
}

// idle reports whether the entry may be passed over unread.
func (v *verifier) idle() bool { return v == nil || !v.on }

// write takes what was read of the entry.
func (v *verifier) write(p []byte) error {
	if v.idle() {
		return nil
	}
	for len(p) > 0 {
		if len(v.page) == 0 && len(p) >= v.block { // as it lies there, without a copy
			if err := v.check(p[:v.block]); err != nil {
				return err
			}
			p = p[v.block:]
			continue
		}
		n := min(v.block-len(v.page), len(p))
		v.page, p = append(v.page, p[:n]...), p[n:]
		if len(v.page) == v.block {
			if err := v.check(v.page); err != nil {
				return err
			}
			v.page = v.page[:0]
		}
	}
	return nil
}

// end tells what was found in the entry. A file whose size is no multiple of a
// page is being extended, or was when the server crashed; what is behind its
// last whole page is not looked at, nor does the server.
func (v *verifier) end() error {
	if v.idle() {
		return nil
	}
	v.on = false
	if len(v.found) == 0 {
		return nil
	}
	name := v.entry.Path
	if v.entry.Tablespace != 0 {
		name = fmt.Sprintf("pg_tblspc/%d/%s", v.entry.Tablespace, name)
	}
	text := strings.Join(v.found, ", ")
	if v.more > 0 {
		text += fmt.Sprintf(" and %d more", v.more)
	}
	return damage(fmt.Sprintf("file %s, %s", name, text))
}

// damage is the error for pages that their checksums do not match.
func damage(text string) error {
	return transport.WithHint(fmt.Errorf("%w: %s", ErrChecksum, text),
		"the cluster itself is damaged: keep the backups that there are, look at its disk and memory, and find out with pg_amcheck or a dump what is lost")
}

// pageState is what a page looks like.
type pageState uint8

const (
	pageGood pageState = iota
	pageBad
	pageOdd // new by its header, yet not empty: the server itself passes over it
)

func (v *verifier) look(page []byte, block uint32) pageState {
	if binary.LittleEndian.Uint16(page[atUpper:]) == 0 {
		if allZero(page) {
			return pageGood
		}
		return pageOdd
	}
	lsn := walname.LSN(binary.LittleEndian.Uint32(page[atLSN:]))<<32 | walname.LSN(binary.LittleEndian.Uint32(page[atLSN+4:]))
	if lsn >= v.start || pageChecksum(page, block) == binary.LittleEndian.Uint16(page[atChecksum:]) {
		return pageGood
	}
	return pageBad
}

func (v *verifier) check(page []byte) error {
	at := v.at
	v.at += int64(v.block)
	block := v.first + uint32(at/int64(v.block))
	state := v.look(page, block)
	if state == pageGood {
		return nil
	}
	// It may have been read while it was being written.
	for try := 0; try < rereads; try++ {
		second := make([]byte, v.block)
		could, err := v.again(v.entry, at, try, second)
		if err != nil {
			return err
		}
		if !could {
			if state == pageOdd {
				return nil
			}
			break
		}
		page = second
		if state = v.look(page, block); state == pageGood {
			return nil
		}
	}
	if len(v.found) == maxFound {
		v.more++
		return nil
	}
	text := fmt.Sprintf("block %d: its checksum is %d, that of its content %d", block,
		binary.LittleEndian.Uint16(page[atChecksum:]), pageChecksum(page, block))
	if state == pageOdd {
		text = fmt.Sprintf("block %d: its header is empty, the rest is not", block)
	}
	v.found = append(v.found, text)
	return nil
}

// maxFound is how many pages of a file a message names.
const maxFound = 3

var zeroPage [1 << 16]byte

func allZero(page []byte) bool { return bytes.Equal(page, zeroPage[:len(page)]) }

// askPage reads a page again through SQL, for a backup over the protocol from a
// server that does not verify pages itself.
func (b *common) askPage(ctx context.Context, e basebackup.Entry, at int64, try int, page []byte) (bool, error) {
	name := e.Path
	if e.Tablespace != 0 {
		name = fmt.Sprintf("pg_tblspc/%d/%s", e.Tablespace, e.Path)
	}
	if err := pause(ctx, try); err != nil {
		return false, err
	}
	text, err := b.sql.Value(ctx, fmt.Sprintf("SELECT encode(pg_read_binary_file(%s, %d, %d), 'hex')", Literal(name), at, len(page)))
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		return false, nil // not for this role; or the file is gone
	}
	again, err := unhex(text)
	if err != nil || len(again) < len(page) {
		return false, err
	}
	copy(page, again)
	return true, nil
}

// rereads is how often a page that looks damaged is read again.
const rereads = 3

// pause waits a moment before every reading but the first.
func pause(ctx context.Context, try int) error {
	if try == 0 {
		return nil
	}
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
