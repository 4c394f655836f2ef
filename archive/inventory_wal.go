package archive

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"walship/internal/layout"
	"walship/internal/stored"
	"walship/internal/walpage"
	"walship/transport"
	"walship/walname"
)

// listAhead is how many folders are listed at once. A folder of segments of 16
// MB takes some five round trips, so a hundred thousand segments take as long as
// about sixty.
const listAhead = 32

// logs looks at the folders of WAL, in order.
func (t *taker) logs(ctx context.Context) error {
	root := t.inv.Cluster.WAL()
	var folders []string
	err := t.List(ctx, root, func(e transport.FileInfo) error {
		if _, ok := logFolder(e); ok {
			folders = append(folders, path.Join(root, e.Name))
		} else {
			t.inv.Strays.add(path.Join(root, e.Name), e)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // an archive that was begun
		return err
	}
	sort.Strings(folders)
	return listInOrder(ctx, t.Reader, folders, t.log)
}

// logFolder tells which timeline and log a folder of WAL is of.
func logFolder(e transport.FileInfo) (walname.Segment, bool) {
	n, err := walname.Parse(e.Name + "00000000")
	return n.Segment, e.IsDir && err == nil && n.Kind == walname.KindSegment
}

// list returns the entries of a folder that holds few. One that went meanwhile
// is empty.
func (t *taker) list(ctx context.Context, dir string) ([]transport.FileInfo, error) {
	var entries []transport.FileInfo
	err := t.List(ctx, dir, func(e transport.FileInfo) error {
		entries = append(entries, e)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return entries, err
}

// log takes stock of one folder, whose entries are in order of their names.
func (t *taker) log(dir string, entries []transport.FileInfo) error {
	vouchers := make(map[string]bool) // names that a voucher stands for
	for _, e := range entries {
		if stem, ok := voucherOf(e.Name); ok {
			vouchers[stem] = true
		}
	}
	for _, e := range entries {
		where := path.Join(dir, e.Name)
		file, ok := storedFile(where, e)
		own := ok && file.Name.Segment.String()[:16] == path.Base(dir) && file.Name.Kind != walname.KindHistory
		_, isVoucher := voucherOf(e.Name)
		switch {
		case e.IsDir || !own && !isVoucher:
			t.inv.Strays.add(where, e)
			continue
		case isVoucher:
			t.voucher(e)
			continue
		}
		if err := t.file(file, vouchers[e.Name]); err != nil {
			return err
		}
	}
	return nil
}

// file takes stock of one file of WAL. A segment that cannot be whole is as good
// as missing.
func (t *taker) file(f StoredFile, vouched bool) error {
	tl := t.timeline(f.Name.Timeline())
	recent := !f.ModTime.Before(t.look.Since)
	why := t.cannotBe(f, vouched)
	if err := t.inv.Geometry.Check(f.Name.Segment); err != nil {
		why = err.Error()
	}
	if f.Broken = why; why != "" {
		t.broken(f.Stored, "%s", why)
	}
	if f.Name.Kind == walname.KindSegment && why == "" {
		t.last = f.Stored
		second := tl.addSegment(t.inv.Geometry, f)
		if recent {
			tl.count(f, second)
		}
	}
	if !recent {
		return nil
	}
	stray := Stray{path.Base(f.Stored), f.Size, f.ModTime}
	switch f.Name.Kind {
	case walname.KindPartial:
		tl.Partials = append(tl.Partials, stray)
	case walname.KindBackup:
		tl.Labels = append(tl.Labels, stray)
	}
	if t.look.Each != nil {
		return t.look.Each(f)
	}
	return nil
}

// voucher adds what vouches for a plain segment to its size.
func (t *taker) voucher(e transport.FileInfo) {
	if n, err := walname.Parse(e.Name[:min(24, len(e.Name))]); err == nil && !e.ModTime.Before(t.look.Since) {
		t.timeline(n.Timeline()).Stored += e.Size
	}
}

// smallestStored is less than any stored file has that carries a record, bytes.
const smallestStored = 512

// cannotBe tells from a file's size what is wrong with it, "" if that tells
// nothing.
func (t *taker) cannotBe(f StoredFile, vouched bool) string {
	segment := f.Name.Kind == walname.KindSegment || f.Name.Kind == walname.KindPartial
	switch codec := stored.CodecOf(f.Stored); {
	case f.Size == 0:
		return "it is empty"
	case codec != stored.Plain && f.Size < smallestStored:
		return "it is too short"
	case codec != stored.Plain:
		return ""
	case segment && f.Size != t.inv.Geometry.SegmentSize:
		return "it has not the size of a segment"
	case !vouched:
		return "nothing vouches for it"
	}
	return ""
}

// addSegment adds the segment to the runs. It reports whether it was there
// already, under another extension.
func (tl *Timeline) addSegment(g walname.Geometry, f StoredFile) (second bool) {
	s := f.Name.Segment
	if n := len(tl.Runs); n > 0 {
		last := &tl.Runs[n-1]
		if last.Last == s {
			return true
		}
		if next, ok := g.Next(last.Last); ok && next == s {
			last.Last, last.Stored = s, f.ModTime
			return false
		}
	}
	tl.Runs = append(tl.Runs, Run{First: s, Last: s, Stored: f.ModTime})
	return false
}

func (tl *Timeline) count(f StoredFile, second bool) {
	tl.Stored += f.Size
	if second {
		return
	}
	tl.Count++
	if tl.First.IsZero() || f.ModTime.Before(tl.First) {
		tl.First = f.ModTime
	}
	if f.ModTime.After(tl.Last) {
		tl.Last = f.ModTime
	}
}

// joinSkipped joins runs between which only a segment lies that is never used.
func joinSkipped(g walname.Geometry, runs []Run) []Run {
	var joined []Run
	for _, r := range runs {
		if n := len(joined); n > 0 {
			if next, ok := g.Next(joined[n-1].Last); ok && next == r.First {
				joined[n-1].Last, joined[n-1].Stored = r.Last, r.Stored
				continue
			}
		}
		joined = append(joined, r)
	}
	return joined
}

// storedFile reads the name of a stored file of WAL.
func storedFile(where string, e transport.FileInfo) (StoredFile, bool) {
	f := StoredFile{Stored: where, Size: e.Size, ModTime: e.ModTime.Truncate(time.Second)}
	base := path.Base(where)
	n, ok := layout.ParseStored(base, stored.Extensions(stored.Written()))
	if !ok {
		// NAME.1a2b3c4d.partial, the second of its name.
		stem := strings.TrimSuffix(base, stored.CodecOf(base).Extension())
		parts := strings.Split(stem, ".")
		if len(parts) != 3 || len(parts[1]) != 8 || strings.Trim(parts[1], hexDigits) != "" || parts[2] != "partial" {
			return f, false
		}
		var err error
		if n, err = walname.Parse(parts[0] + ".partial"); err != nil {
			return f, false
		}
	}
	f.Name = n
	return f, !e.IsDir
}

const hexDigits = "0123456789abcdef"

// voucherOf returns the name of the file that a voucher stands for.
func voucherOf(base string) (string, bool) {
	stem, ok := strings.CutSuffix(base, ".sha256")
	if !ok || len(stem) < 66 {
		return "", false
	}
	at := len(stem) - 65
	return stem[:at], stem[at] == '.' && strings.Trim(stem[at+1:], hexDigits) == ""
}

// version learns from the first bytes of one segment which PostgreSQL wrote it:
// 9.0 to 9.2 leave the last segment of each log out.
func (t *taker) version(ctx context.Context) error {
	if t.last == "" {
		return nil
	}
	head, err := t.Head(ctx, t.last, stored.HeadSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since
	}
	if err != nil {
		return err
	}
	if stored.CodecOf(t.last) == stored.Plain {
		if h, err := walpage.Parse(head.Data); err == nil {
			t.inv.Version = h.Major()
		}
	} else if r, err := stored.ParseHead(head.Data, head.Size); err == nil {
		t.inv.Version = r.Version
	} else if errors.Is(err, stored.ErrDamaged) {
		t.broken(t.last, "%v", err)
	}
	switch t.inv.Version {
	case "9.0", "9.1", "9.2":
		t.inv.Geometry.SkipFF = true
	}
	return nil
}
