package restore

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"walship/internal/basebackup"
	"walship/internal/fault"
	"walship/internal/stored"
)

// Files of a data directory. pg_control has another name until all else is in
// place and on stable storage: without it no server starts.
const (
	controlFile   = "global/pg_control"
	controlAside  = "global/pg_control.walship"
	labelFile     = "backup_label"
	tablespaceMap = "tablespace_map"
)

// target is where the parts of one tablespace go.
type target struct {
	*tree
	prefix string // of each path in it
	main   bool   // the data directory's own
}

// unpack writes all files of the backup and checks each of them.
func (r *Restorer) unpack(ctx context.Context, p *Plan, targets map[uint32]target) error {
	for _, ref := range p.Manifest.Lists {
		parts, err := r.parts(ctx, p, ref)
		if err != nil {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(min(max(runtime.GOMAXPROCS(0), 4), 8))
		for _, part := range parts {
			to, ok := targets[part.Tablespace]
			if !ok {
				return fmt.Errorf("%w: part %s is of an unknown tablespace", basebackup.ErrDamaged, part.Name)
			}
			g.Go(func() error { return r.unpackPart(gctx, p, part, to) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// unpackPart writes one part. If the archive is lost meanwhile, what was written
// is taken back and the part is begun again.
func (r *Restorer) unpackPart(ctx context.Context, p *Plan, part basebackup.Part, to target) error {
	return r.patiently(ctx, func() error {
		u := &unpacking{Restorer: r, target: to, buf: make([]byte, 256<<10)}
		// Each file is checked against the list, and so is each header.
		err := r.checked(ctx, p, part.Ref, false, func(content io.Reader) error { return u.all(ctx, part, content) })
		if err != nil {
			for _, name := range u.made {
				to.Remove(name)
			}
			r.progress(-u.bytes)
			return err
		}
		fault.At("restore.part")
		return nil
	})
}

func (r *Restorer) progress(n int64) {
	if r.Progress != nil && n != 0 {
		r.Progress(n)
	}
}

// unpacking is one attempt at one part.
type unpacking struct {
	*Restorer
	target
	buf   []byte
	made  []string
	bytes int64
}

// all writes the entries, each of which must be the one that the list names.
func (u *unpacking) all(ctx context.Context, part basebackup.Part, content io.Reader) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", stored.ErrDamaged, fmt.Sprintf(format, args...))
	}
	archive := tar.NewReader(content)
	for _, f := range part.Files {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return bad("it ends before %s, which its list names", f.Path)
		}
		if err != nil {
			return bad("at %s: %v", f.Path, err)
		}
		name := h.Name
		if f.Type == basebackup.Dir {
			name = strings.TrimSuffix(name, "/")
		}
		switch {
		case name != f.Path:
			return bad("it has %q where its list names %s", h.Name, f.Path)
		case h.Typeflag != typeflag(f.Type):
			return bad("%s is of tar's type %q, not what its list names", f.Path, h.Typeflag)
		case f.Type == basebackup.Regular && h.Size != f.Size:
			return bad("%s has %d bytes, its list says %d", f.Path, h.Size, f.Size)
		case f.Type == basebackup.Link && h.Linkname != f.Link:
			return bad("%s leads to %q, its list says %q", f.Path, h.Linkname, f.Link)
		}
		if err := u.entry(f, archive); err != nil {
			return err
		}
	}
	if h, err := archive.Next(); err == nil {
		return bad("it has %q, which its list does not name", h.Name)
	} else if !errors.Is(err, io.EOF) {
		return bad("behind its last file: %v", err)
	}
	return nil
}

func typeflag(t basebackup.Type) byte {
	switch t {
	case basebackup.Dir:
		return tar.TypeDir
	case basebackup.Link:
		return tar.TypeSymlink
	}
	return tar.TypeReg
}

// entry writes one entry.
func (u *unpacking) entry(f basebackup.File, content io.Reader) error {
	name := path.Join(u.prefix, f.Path)
	switch {
	case u.main && name == markFile:
		return nil // left by a restore of the source itself
	case f.Type == basebackup.Dir:
		return local(u.dir(name, f.Mode))
	case f.Type == basebackup.Link:
		return u.linkEntry(f, name)
	case u.main && name == controlFile:
		name = controlAside
	}
	return u.file(f, name, content)
}

// linkEntry makes a link that stays inside the data directory. Those of the
// tablespaces are made by place; others that lead elsewhere lead to what is
// another server's.
func (u *unpacking) linkEntry(f basebackup.File, name string) error {
	if u.main && isTablespaceLink(name) {
		return nil
	}
	if filepath.IsAbs(f.Link) || !filepath.IsLocal(path.Join(path.Dir(name), f.Link)) {
		u.warn("the link %s is left out: it leads to %s, out of the data directory", name, f.Link)
		if u.main && !strings.ContainsAny(name, "./") { // pg_log, say
			return local(u.mkdirs(name))
		}
		return nil
	}
	if err := u.link(f.Link, name); err != nil {
		return u.taken(name, err)
	}
	u.made = append(u.made, name)
	return nil
}

// isTablespaceLink reports whether the path is that of a tablespace's link.
func isTablespaceLink(name string) bool {
	oid, ok := strings.CutPrefix(name, "pg_tblspc/")
	_, err := strconv.ParseUint(oid, 10, 32)
	return ok && err == nil
}

// taken words the error of making what is there already.
func (u *unpacking) taken(name string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s comes twice in the backup", stored.ErrDamaged, name)
	}
	return local(err)
}

// file writes one regular file and checks it.
func (u *unpacking) file(f basebackup.File, name string, content io.Reader) error {
	out, err := u.create(name, f.Mode)
	if err != nil {
		return u.taken(name, err)
	}
	u.made = append(u.made, name)
	sum := sha256.New()
	var size int64
	for {
		n, err := content.Read(u.buf)
		sum.Write(u.buf[:n])
		if _, err := out.Write(u.buf[:n]); err != nil {
			_ = out.Close()
			return local(err)
		}
		size += int64(n)
		u.bytes += int64(n)
		u.progress(int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			_ = out.Close()
			return fmt.Errorf("%w: in %s: %w", stored.ErrDamaged, f.Path, err)
		}
	}
	if err := errors.Join(out.Close(), u.stamp(name, f.ModTime)); err != nil {
		return local(err)
	}
	if got := basebackup.Sum(sum.Sum(nil)); size != f.Size || got != *f.SHA256 {
		return fmt.Errorf("%w: %s has SHA-256 %x, its list says %x", stored.ErrDamaged, f.Path, got, *f.SHA256)
	}
	return nil
}
