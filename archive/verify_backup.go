package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"walship/internal/basebackup"
	"walship/internal/crypt"
	"walship/internal/stored"
)

// backups reads the base backups, one after the other, several files at once.
func (r *verifying) backups(ctx context.Context) error {
	if !r.Scope.Backups {
		return nil
	}
	root := basebackup.Root(r.Cluster)
	entries, err := (&taker{Reader: r.Store}).list(ctx, root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := basebackup.ParseID(e.Name); err != nil || !e.IsDir {
			r.fault(Fault{Kind: Unknown, File: path.Join(root, e.Name), What: "it does not belong there: " + stranger(e)})
		}
	}
	done := make(map[string]bool)
	for _, id := range r.state.Backups {
		done[id] = true
	}
	for _, b := range r.inv.Backups {
		if done[b.ID.String()] || !r.wantedBackup(b) {
			continue
		}
		if err := r.backup(ctx, b); err != nil {
			return err
		}
		r.state.Backups = append(r.state.Backups, b.ID.String())
		if err := r.save(); err != nil {
			return err
		}
	}
	return nil
}

// backup reads one base backup: its manifest, the lists that it vouches for, the
// parts that these vouch for, and every file in them.
func (r *verifying) backup(ctx context.Context, b Backup) error {
	folder := basebackup.Folder(r.Cluster, b.ID)
	manifest := path.Join(folder, basebackup.ManifestFile)
	switch {
	case b.Manifest == nil && b.Damage != "":
		r.fault(Fault{Kind: Damaged, File: manifest, What: b.Damage})
		return nil
	case b.Manifest == nil && time.Since(b.Written) > abandonedAge:
		r.fault(Fault{Kind: Missing, File: manifest, What: "there is no manifest, and everything else is older than a day"})
		return nil
	case b.Manifest == nil:
		r.warn("%s has no manifest: a backup in progress, or one that has died", folder)
		return nil
	}
	v := &backupCheck{verifying: r, Backup: b, folder: folder, sizes: make(map[string]int64)}
	entries, err := (&taker{Reader: r.Store}).list(ctx, folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir || e.Name != basebackup.ManifestFile {
			v.sizes[e.Name] = e.Size
		}
	}
	v.named = make(map[string]bool, len(v.sizes))
	if err := r.do(ctx, func(give func(job) bool) error { return v.all(ctx, give) }); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name != basebackup.ManifestFile && !v.named[e.Name] && v.listed {
			r.fault(Fault{Kind: Unknown, File: path.Join(folder, e.Name), What: "neither the manifest nor a list names it"})
		}
	}
	m := b.Manifest
	if v.shut { // the lists, which name what is missing, are among it
		var size int64
		for _, e := range entries {
			switch {
			case e.Name == basebackup.ManifestFile:
			case v.named[e.Name] || stored.CodecOf(e.Name).IsSealed() && !e.IsDir:
				size += e.Size
			default:
				r.fault(Fault{Kind: Unknown, File: path.Join(folder, e.Name), What: "the manifest does not name it, and it is not encrypted as what the lists name is"})
			}
		}
		if size != m.StoredSize {
			r.fault(Fault{Kind: Damaged, File: manifest, What: fmt.Sprintf("its files have %d bytes, %d were stored", size, m.StoredSize)})
		}
		return nil
	}
	if v.listed && (v.files != m.Files || v.size != m.Size) {
		r.fault(Fault{Kind: Contrary, File: manifest, What: fmt.Sprintf("it tells of %d files of %d bytes, its lists of %d files of %d bytes", m.Files, m.Size, v.files, v.size)})
	}
	return nil
}

// backupCheck is one backup that is being read.
type backupCheck struct {
	*verifying
	Backup
	folder      string
	sizes       map[string]int64 // of what lies in the folder
	named       map[string]bool  // by the manifest or a list
	files, size int64            // as the lists tell
	listed      bool             // all lists could be read
	shut        bool             // a list is encrypted, and the keys do not open it
}

// all reads the lists, one after the other, and gives what they name to be read.
func (v *backupCheck) all(ctx context.Context, give func(job) bool) error {
	m := v.Manifest
	v.shut = v.shutLists(ctx)
	for _, ref := range []*basebackup.Ref{m.Config, m.ServerManifest} {
		if ref == nil || !v.there(*ref) {
			continue
		}
		if !give(func(ctx context.Context, back *readBack) error {
			return v.ref(ctx, back, *ref, func(c io.Reader) error { return nil })
		}) {
			return nil
		}
	}
	v.listed = !v.shut
	for _, ref := range m.Lists {
		if !v.there(ref) {
			v.listed = false
			continue
		}
		if v.shut {
			if !give(func(ctx context.Context, back *readBack) error {
				return v.ref(ctx, back, ref, func(io.Reader) error { return nil })
			}) {
				return nil
			}
			continue
		}
		// A list is acted on only when all of it has been read and is right.
		if err := v.list(ctx, ref, give); err != nil {
			return err
		}
	}
	if v.shut {
		v.unlisted(give)
	}
	return nil
}

// shutLists reports whether there are lists that the keys do not open.
func (v *backupCheck) shutLists(ctx context.Context) bool {
	for _, ref := range v.Manifest.Lists {
		if codec := stored.CodecOf(ref.Name); codec.IsSealed() {
			remote, err := v.Store.Open(ctx, path.Join(v.folder, ref.Name))
			if err != nil {
				continue // what is wrong, its reading says
			}
			c, err := stored.Decode(stored.Source(remote), remote.Size(), codec, ref.Size, v.Keys)
			if err == nil {
				c.Close()
			}
			_ = remote.Close()
			if errors.Is(err, crypt.ErrNoKey) {
				return true
			}
		}
	}
	return false
}

// unlisted gives the files to be read that the lists name, which cannot be read:
// each vouches for itself.
func (v *backupCheck) unlisted(give func(job) bool) {
	for _, name := range slices.Sorted(maps.Keys(v.sizes)) {
		codec := stored.CodecOf(name)
		if v.named[name] || !codec.IsSealed() || !v.Scope.chosen(path.Join(v.folder, name)) {
			continue
		}
		v.named[name] = true
		at, stem := path.Join(v.folder, name), strings.TrimSuffix(name, codec.Extension())
		if !give(func(ctx context.Context, back *readBack) error {
			wrong, _, err := v.read(ctx, func() error {
				rec, err := back.sealed(ctx, at)
				if err == nil && (rec.Name != stem || rec.SystemID != v.Cluster.SystemID) {
					err = fmt.Errorf("%w: its record says that it is %q of cluster %d", stored.ErrDamaged, rec.Name, rec.SystemID)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			v.count(v.sizes[name])
			if wrong != nil {
				v.fault(Fault{Kind: Damaged, File: at, What: oneReason(wrong)})
			}
			return nil
		}) {
			return
		}
	}
}

// list checks a list and then goes through it. Its content is read twice, so
// that it takes no memory.
func (v *backupCheck) list(ctx context.Context, ref basebackup.Ref, give func(job) bool) error {
	back := newReadBack(v.Store, v.inv, false)
	back.read, back.keys, back.shut = v.Read, v.Keys, v.unopened
	defer back.close()
	failed := false
	err := v.refWith(ctx, back, ref, func(c io.Reader) error {
		return basebackup.ReadParts(c, func(basebackup.Part) error { return nil })
	}, func() { failed = true })
	if err != nil || failed {
		v.listed = v.listed && !failed
		return err
	}
	back.read = nil
	stop := errors.New("stop")
	_, _, err = v.read(ctx, func() error {
		remote, err := v.Store.Open(ctx, path.Join(v.folder, ref.Name))
		if err != nil {
			return err
		}
		defer remote.Close()
		c, err := back.decoder.Decode(stored.Source(remote), remote.Size(), stored.CodecOf(ref.Name), ref.Size, v.Keys)
		if err != nil {
			return err
		}
		defer c.Close()
		return basebackup.ReadParts(c, func(p basebackup.Part) error {
			if v.named[p.Name] {
				return nil // after a retry
			}
			for _, f := range p.Files {
				if f.Type == basebackup.Regular {
					v.files++
					v.size += f.Size
				}
			}
			if !v.there(p.Ref) {
				return nil
			}
			if !v.Scope.chosen(path.Join(v.folder, p.Name)) {
				v.skip()
				return nil
			}
			if !give(func(ctx context.Context, back *readBack) error {
				return v.ref(ctx, back, p.Ref, func(c io.Reader) error { return partFits(c, p) })
			}) {
				return stop
			}
			return nil
		})
	})
	if errors.Is(err, stop) {
		return nil
	}
	return err
}

// there takes note of a file that is named, and reports whether it is there.
func (v *backupCheck) there(ref basebackup.Ref) bool {
	name := path.Join(v.folder, ref.Name)
	if v.named[ref.Name] {
		v.fault(Fault{Kind: Contrary, File: name, What: "it is named twice"})
		return false
	}
	v.named[ref.Name] = true
	size, ok := v.sizes[ref.Name]
	switch {
	case !ok:
		v.fault(Fault{Kind: Missing, File: name, What: "the backup needs it"})
		return false
	case size != ref.StoredSize:
		v.fault(Fault{Kind: Damaged, File: name, What: fmt.Sprintf("it has %d bytes, %d were stored", size, ref.StoredSize)})
		return false
	}
	return true
}

func (v *backupCheck) ref(ctx context.Context, back *readBack, ref basebackup.Ref, look func(io.Reader) error) error {
	return v.refWith(ctx, back, ref, look, func() {})
}

// refWith reads a file that is vouched for. look reads its content as far as it
// likes; failed is called if anything is wrong.
func (v *backupCheck) refWith(ctx context.Context, back *readBack, ref basebackup.Ref, look func(io.Reader) error, failed func()) error {
	name := path.Join(v.folder, ref.Name)
	wrong, _, err := v.read(ctx, func() error { return back.ref(ctx, name, ref, look) })
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	v.count(ref.StoredSize)
	if wrong != nil {
		failed()
		v.fault(Fault{Kind: Damaged, File: name, What: oneReason(wrong)})
	}
	return nil
}

// ref reads a file of a backup whole. nil means that it is what ref vouches for,
// and that look has found nothing wrong with its content.
func (r *readBack) ref(ctx context.Context, name string, ref basebackup.Ref, look func(io.Reader) error) error {
	remote, err := r.store.Open(ctx, name)
	if err != nil {
		return err
	}
	defer remote.Close()
	codec := stored.CodecOf(name)
	c, err := r.decoder.Decode(stored.Source(&counted{remote, r.read}), remote.Size(), codec, ref.Size, r.keys)
	if errors.Is(err, crypt.ErrNoKey) {
		return r.unopenedRef(ctx, name, ref)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	in := &remembering{r: c}
	found := look(in)
	// What is wrong with the file as a whole says more.
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{in}, r.buf)
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", stored.ErrDamaged, fmt.Sprintf(format, args...))
	}
	switch {
	case in.err != nil && in.err != io.EOF:
		return in.err
	case err != nil:
		return err
	case codec != stored.Plain && !c.HasRecord:
		return bad("it carries no record")
	case c.HasRecord && c.Record.SystemID != r.cluster.SystemID:
		return bad("its record says that it is of cluster %d", c.Record.SystemID)
	case c.HasRecord && c.Record.Name != strings.TrimSuffix(ref.Name, codec.Extension()):
		return bad("its record says that it is %q", c.Record.Name)
	case in.n != ref.Size || c.Sum() != [32]byte(ref.SHA256):
		return bad("its content has %d bytes and SHA-256 %x, %d bytes and %x are vouched for", in.n, c.Sum(), ref.Size, ref.SHA256)
	case found != nil && errors.Is(found, stored.ErrDamaged):
		return found
	case found != nil:
		return fmt.Errorf("%w: %w", stored.ErrDamaged, found)
	}
	return nil
}

// unopenedRef is ref for a file that the keys do not open: its own record has to
// be what ref vouches for.
func (r *readBack) unopenedRef(ctx context.Context, name string, ref basebackup.Ref) error {
	rec, err := r.sealed(ctx, name)
	if err != nil {
		return err
	}
	if stem := strings.TrimSuffix(ref.Name, stored.CodecOf(name).Extension()); rec.Name != stem || rec.SystemID != r.cluster.SystemID ||
		rec.Size != ref.Size || rec.SHA256 != [32]byte(ref.SHA256) {
		return fmt.Errorf("%w: its record says that it is %q of cluster %d with SHA-256 %x, %x is vouched for", stored.ErrDamaged, rec.Name, rec.SystemID, rec.SHA256, ref.SHA256)
	}
	return nil
}

// remembering remembers how reading ended, which who reads may hide.
type remembering struct {
	r   io.Reader
	n   int64
	err error
}

func (r *remembering) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	r.n += int64(n)
	r.err = err
	return n, err
}

// partFits compares a tar file with what its list says of it.
func partFits(c io.Reader, p basebackup.Part) error {
	in := tar.NewReader(c)
	h := sha256.New()
	buf := make([]byte, 128<<10)
	for _, f := range p.Files {
		header, err := in.Next()
		if err != nil {
			return fmt.Errorf("at %s: %w", f.Path, err)
		}
		want := map[basebackup.Type]byte{basebackup.Regular: tar.TypeReg, basebackup.Dir: tar.TypeDir, basebackup.Link: tar.TypeSymlink}[f.Type]
		switch {
		case strings.TrimSuffix(header.Name, "/") != f.Path:
			return fmt.Errorf("it has %q where its list names %s", header.Name, f.Path)
		case header.Typeflag != want, header.Linkname != f.Link, f.Type == basebackup.Regular && header.Size != f.Size,
			header.Mode != int64(f.Mode), !header.ModTime.Equal(f.ModTime.Truncate(time.Second)):
			return fmt.Errorf("%s is not of the kind, size, mode or time that its list names", f.Path)
		}
		if f.Type != basebackup.Regular {
			continue
		}
		h.Reset()
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{in}, buf); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if sum := [32]byte(h.Sum(nil)); f.SHA256 == nil || sum != [32]byte(*f.SHA256) {
			return fmt.Errorf("%s has SHA-256 %x, its list says otherwise", f.Path, sum)
		}
	}
	if header, err := in.Next(); err == nil {
		return fmt.Errorf("it has %q, which its list does not name", header.Name)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("behind its last file: %w", err)
	}
	return nil
}
