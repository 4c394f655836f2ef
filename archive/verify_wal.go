package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// others reads the histories and what was set aside.
func (r *verifying) others(ctx context.Context) error {
	if r.state.Others || !r.Scope.WAL {
		return nil
	}
	err := r.do(ctx, func(give func(job) bool) error {
		if err := r.entries(ctx, r.Cluster.Histories(), give, func(where string, e transport.FileInfo) (StoredFile, bool) {
			f, ok := storedFile(where, e)
			return f, ok && f.Name.Kind == walname.KindHistory
		}); err != nil {
			return err
		}
		return r.refused(ctx, give)
	})
	if err != nil {
		return err
	}
	r.state.Others = true
	return r.save()
}

// entries lists a folder of WAL files and gives those that are wanted to be read.
func (r *verifying) entries(ctx context.Context, dir string, give func(job) bool, own func(string, transport.FileInfo) (StoredFile, bool)) error {
	entries, err := (&taker{Reader: r.Store}).list(ctx, dir)
	if err == nil {
		r.folder(dir, entries, give, own)
	}
	return err
}

// folder gives the files of a folder to be read, and takes note of what does not
// belong there.
func (r *verifying) folder(dir string, entries []transport.FileInfo, give func(job) bool, own func(string, transport.FileInfo) (StoredFile, bool)) {
	before := StoredFile{}
	for _, e := range entries {
		where := path.Join(dir, e.Name)
		f, ok := own(where, e)
		if stem, isVoucher := voucherOf(e.Name); isVoucher && !e.IsDir {
			if _, ok := own(path.Join(dir, stem), transport.FileInfo{Name: stem}); ok {
				continue
			}
			ok = false
		}
		if !ok {
			if r.Scope.Since.IsZero() || !e.ModTime.Before(r.Scope.Since) {
				r.fault(Fault{Kind: Unknown, File: where, What: "it does not belong there: " + stranger(e)})
			}
			continue
		}
		if f.Name.Kind != walname.KindHistory {
			if err := r.inv.Geometry.Check(f.Name.Segment); err != nil {
				r.fault(Fault{Kind: Unknown, File: where, What: err.Error()})
				continue
			}
		}
		_, other := partialToken(path.Base(where))
		if f.Name == before.Name && !other {
			r.fault(Fault{Kind: Duplicate, File: where, What: fmt.Sprintf("%s is stored twice, also as %s", f.Name, path.Base(before.Stored))})
		}
		if !other {
			before = f
		}
		if !r.wanted(f) {
			r.skip()
			continue
		}
		if !give(func(ctx context.Context, back *readBack) error { return r.file(ctx, back, f) }) {
			return
		}
	}
}

func (r *verifying) skip() {
	r.mu.Lock()
	r.state.Skipped++
	r.mu.Unlock()
}

func stranger(e transport.FileInfo) string {
	if e.IsDir {
		return "a folder"
	}
	return fmt.Sprintf("no file of walship's is called so (%d bytes)", e.Size)
}

// file reads one WAL file.
func (r *verifying) file(ctx context.Context, back *readBack, f StoredFile) error {
	var text []byte
	wrong, gone, err := r.read(ctx, func() (err error) {
		if f.Name.Kind == walname.KindHistory || f.Name.Kind == walname.KindBackup {
			text, err = back.small(ctx, f)
			return err
		}
		return back.wal(ctx, f)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.Stored, err)
	}
	if wrong == nil {
		wrong = fits(back, f, text)
	}
	r.count(f.Size)
	switch {
	case gone:
		r.mu.Lock()
		r.vanished++
		r.mu.Unlock()
	case errors.Is(wrong, errMagic):
		r.mu.Lock()
		r.magic, r.magicOf = r.magic+1, f.Stored
		r.mu.Unlock()
	case wrong != nil:
		r.fault(Fault{Kind: Damaged, File: f.Stored, What: oneReason(wrong)})
	}
	return nil
}

// fits checks the text of a history file and of a label.
func fits(back *readBack, f StoredFile, text []byte) error {
	switch f.Name.Kind {
	case walname.KindHistory:
		if _, err := walname.ParseHistory(f.Name.Timeline(), text); err != nil {
			return fmt.Errorf("%w: %w", stored.ErrDamaged, err)
		}
	case walname.KindBackup:
		label, err := walname.ParseBackupLabel(text)
		if err != nil {
			return fmt.Errorf("%w: %w", stored.ErrDamaged, err)
		}
		if at := back.geometry.Start(f.Name.Segment) + walname.LSN(f.Name.Offset); label.Start != at || label.StartSegment != f.Name.Segment {
			return fmt.Errorf("%w: it says that the backup begins at %s in %s, its name says %s", stored.ErrDamaged, label.Start, label.StartSegment, at)
		}
	}
	return nil
}

// oneReason is the error without the words that Kind says already.
func oneReason(err error) string {
	return strings.TrimPrefix(err.Error(), stored.ErrDamaged.Error()+": ")
}

// wal reads the folders of WAL, in order, several files at once. After each
// folder its state is saved.
func (r *verifying) wal(ctx context.Context) error {
	if !r.Scope.WAL {
		return nil
	}
	newest := make(map[string]string) // the last folder of each timeline
	root := r.Cluster.WAL()
	entries, err := (&taker{Reader: r.Store}).list(ctx, root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := logFolder(e); !ok {
			r.fault(Fault{Kind: Unknown, File: path.Join(root, e.Name), What: "it does not belong there: " + stranger(e)})
			continue
		}
		newest[e.Name[:8]] = e.Name
		r.logs = append(r.logs, path.Join(root, e.Name))
	}
	// A folder that is done may have grown since if it is the last of its timeline.
	var dirs []string
	for _, dir := range r.logs {
		if base := path.Base(dir); base > r.state.Logs || newest[base[:8]] == base && r.Resume != nil && base <= r.state.Logs {
			dirs = append(dirs, dir)
		}
	}
	done := &inOrder{left: make(map[string]int), save: func(dir string) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		base := path.Base(dir)
		if base <= r.state.Logs { // read once more
			return nil
		}
		r.state.Logs = base
		return r.save()
	}}
	return r.do(ctx, func(give func(job) bool) error {
		return listInOrder(ctx, r.Store, dirs, func(dir string, entries []transport.FileInfo) error {
			done.begin(dir)
			r.folder(dir, entries, func(j job) bool {
				_ = done.add(dir, 1) // nothing is done by that
				return give(func(ctx context.Context, back *readBack) error {
					if err := j(ctx, back); err != nil {
						return err
					}
					return done.add(dir, -1)
				})
			}, func(where string, e transport.FileInfo) (StoredFile, bool) {
				f, ok := storedFile(where, e)
				return f, ok && f.Name.Kind != walname.KindHistory && f.Name.Segment.String()[:16] == path.Base(dir)
			})
			return done.add(dir, -1)
		})
	})
}

// inOrder tells when a folder and all before it are done.
type inOrder struct {
	mu    sync.Mutex
	order []string
	left  map[string]int // jobs, by folder
	save  func(dir string) error
}

func (o *inOrder) begin(dir string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.order = append(o.order, dir)
	o.left[dir] = 1 // until all of its jobs are given
}

func (o *inOrder) add(dir string, n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left[dir] += n
	last := ""
	for len(o.order) > 0 && o.left[o.order[0]] == 0 {
		last = o.order[0]
		delete(o.left, last)
		o.order = o.order[1:]
	}
	if last == "" {
		return nil
	}
	return o.save(last)
}

// refused reads what was set aside. What was found damaged before is that.
func (r *verifying) refused(ctx context.Context, give func(job) bool) error {
	dir := r.Cluster.Refused()
	entries, err := (&taker{Reader: r.Store}).list(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		where := path.Join(dir, e.Name)
		_, isVoucher := voucherOf(e.Name)
		if e.IsDir || isVoucher || strings.HasSuffix(e.Name, ".damaged") {
			continue
		}
		f := StoredFile{Stored: where, Size: e.Size, ModTime: e.ModTime}
		if !r.wantedRefused(f) {
			r.skip()
			continue
		}
		if !give(func(ctx context.Context, back *readBack) error { return r.aside(ctx, back, f) }) {
			break
		}
	}
	return nil
}

func (r *verifying) wantedRefused(f StoredFile) bool {
	return (r.Scope.Since.IsZero() || !f.ModTime.Before(r.Scope.Since)) && r.Scope.chosen(f.Stored)
}

// aside reads a file that was set aside.
func (r *verifying) aside(ctx context.Context, back *readBack, f StoredFile) error {
	wrong, gone, err := r.read(ctx, func() error { return back.aside(ctx, f) })
	if err != nil {
		return fmt.Errorf("%s: %w", f.Stored, err)
	}
	r.count(f.Size)
	if wrong != nil && !gone {
		r.fault(Fault{Kind: Damaged, File: f.Stored, What: oneReason(wrong)})
	}
	return nil
}

// aside reads a file that was set aside whole: its name ends in digits that begin
// its SHA-256. Errors are those of wal.
func (r *readBack) aside(ctx context.Context, f StoredFile) error {
	codec := stored.CodecOf(f.Stored)
	stem := strings.TrimSuffix(path.Base(f.Stored), codec.Extension())
	var sum [32]byte
	c, _, err := r.decode(ctx, f.Stored, walname.MaxSegmentSize, io.Discard)
	switch {
	case errors.Is(err, crypt.ErrNoKey):
		record, err := r.sealed(ctx, f.Stored)
		if err != nil {
			return err
		}
		c, sum = nil, record.SHA256
	case err != nil:
		return err
	default:
		sum = c.Sum()
	}
	if codec == stored.Plain {
		if err := r.vouched(ctx, f.Stored, sum); err != nil {
			return err
		}
	} else if c != nil && !c.HasRecord {
		return fmt.Errorf("%w: it carries no record", stored.ErrDamaged)
	}
	if name := path.Base(layout.Cluster{}.SetAside(walname.Name{}, sum)); !strings.HasSuffix(stem, name[len(name)-9:]) {
		return fmt.Errorf("%w: its content has SHA-256 %x, which its name does not say", stored.ErrDamaged, sum[:4])
	}
	return nil
}
