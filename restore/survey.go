package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"walship/internal/basebackup"
	"walship/internal/crypt"
	"walship/internal/stored"
	"walship/transport"
)

// survey reads the backup's lists, and compares the sizes of all that they name
// with what lies in its folder.
func (r *Restorer) survey(ctx context.Context, p *Plan) error {
	folder := p.folder()
	sizes := make(map[string]int64)
	err := r.Store.List(ctx, folder, func(e transport.FileInfo) error {
		if !e.IsDir {
			sizes[e.Name] = e.Size
		}
		return nil
	})
	if err != nil {
		return gone(err)
	}
	var files, bytes int64
	tablespaces := map[uint32]bool{0: true}
	for _, t := range p.Manifest.Tablespaces {
		tablespaces[t.OID] = true
	}
	needed := map[string]bool{"PG_VERSION": true, controlFile: true, labelFile: true}
	seen := make(map[string]bool)
	present := func(ref basebackup.Ref) error {
		size, ok := sizes[ref.Name]
		switch at := path.Join(folder, ref.Name); {
		case !ok:
			return fmt.Errorf("%s: %w: it is missing", at, stored.ErrDamaged)
		case size != ref.StoredSize:
			return fmt.Errorf("%s: %w: it has %d bytes, %d were stored", at, stored.ErrDamaged, size, ref.StoredSize)
		case seen[ref.Name]:
			return fmt.Errorf("%s: %w: it is listed twice", at, basebackup.ErrDamaged)
		}
		seen[ref.Name] = true
		return nil
	}
	for _, ref := range append(refs(p.Manifest.Config), refs(p.Manifest.ServerManifest)...) {
		if err := present(ref); err != nil {
			return err
		}
	}
	for _, ref := range p.Manifest.Lists {
		if err := present(ref); err != nil {
			return err
		}
		parts, err := r.parts(ctx, p, ref)
		if err != nil {
			return err
		}
		for _, part := range parts {
			if !tablespaces[part.Tablespace] {
				return fmt.Errorf("%s: %w: its part %s is of an unknown tablespace %d", path.Join(folder, ref.Name), basebackup.ErrDamaged, part.Name, part.Tablespace)
			}
			for _, f := range part.Files {
				if f.Type == basebackup.Regular {
					files++
					bytes += f.Size
				}
				if part.Tablespace == 0 {
					delete(needed, f.Path)
				}
			}
			if err := present(part.Ref); err != nil {
				return err
			}
		}
	}
	for name := range needed {
		return fmt.Errorf("backup %s: %w: its lists name no file %s", p.Manifest.Backup, basebackup.ErrDamaged, name)
	}
	if files != p.Manifest.Files || bytes != p.Manifest.Size {
		return fmt.Errorf("backup %s: %w: its lists name %d files of %d bytes, its manifest %d of %d", p.Manifest.Backup, basebackup.ErrDamaged, files, bytes, p.Manifest.Files, p.Manifest.Size)
	}
	return nil
}

// folder is the backup's own.
func (p *Plan) folder() string { return basebackup.Folder(p.Cluster, p.Manifest.ID()) }

// gone makes a file or folder that a manifest names and that is not there a
// damage: it never is an absent WAL file.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", stored.ErrDamaged, withoutClass(err))
	}
	return err
}

// parts reads a list. What it returns is what the manifest vouches for.
func (r *Restorer) parts(ctx context.Context, p *Plan, ref basebackup.Ref) (all []basebackup.Part, err error) {
	err = r.patiently(ctx, func() error {
		all = nil
		return r.content(ctx, p, ref, func(content io.Reader) error {
			return basebackup.ReadParts(content, func(part basebackup.Part) error {
				all = append(all, part)
				return nil
			})
		})
	})
	return all, err
}

// patiently calls do again if the archive could not be reached.
func (r *Restorer) patiently(ctx context.Context, do func() error) error {
	for _, pause := range []time.Duration{time.Second, 3 * time.Second, 10 * time.Second} {
		err := do()
		if !errors.Is(err, transport.ErrUnreachable) || ctx.Err() != nil {
			return err
		}
		r.warn("%v; trying again in %s", err, pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
	return do()
}

// content reads a file of the backup through fn and checks it against the ref
// that vouches for it, and against its own record. An error names the file.
func (r *Restorer) content(ctx context.Context, p *Plan, ref basebackup.Ref, fn func(io.Reader) error) error {
	return r.checked(ctx, p, ref, true, fn)
}

// checked is content. Without whole, fn itself checks the SHA-256 of everything in
// the content that matters, and that of the content is not looked at where the
// codec has a checksum for the rest.
func (r *Restorer) checked(ctx context.Context, p *Plan, ref basebackup.Ref, whole bool, fn func(io.Reader) error) error {
	at := path.Join(p.folder(), ref.Name)
	f, err := r.Store.Open(ctx, at)
	if err != nil {
		return gone(err)
	}
	defer f.Close()
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w: %s", at, stored.ErrDamaged, fmt.Sprintf(format, args...))
	}
	if f.Size() != ref.StoredSize {
		return damaged("it has %d bytes, %d were stored", f.Size(), ref.StoredSize)
	}
	codec := stored.CodecOf(ref.Name)
	c, err := stored.Decode(stored.Source(f), f.Size(), codec, ref.Size, r.Keys)
	if errors.Is(err, crypt.ErrNoKey) {
		return fmt.Errorf("%s: %w", at, err)
	}
	if err != nil {
		return named(at, err)
	}
	defer c.Close()
	name := strings.TrimSuffix(ref.Name, codec.Extension())
	switch {
	case c.HasRecord && (c.Record.Name != name || c.Record.SystemID != p.Cluster.SystemID):
		return damaged("its record says that it is %q of cluster %d", c.Record.Name, c.Record.SystemID)
	case !c.HasRecord && codec != stored.Plain:
		return damaged("it carries no record")
	}
	if whole = whole || codec == stored.Plain; !whole {
		c.SkipSum()
	}
	counted := &counter{r: c}
	failed := fn(counted)
	// What fn had no use for; the checks are done at the very end. A content that
	// is not what it should be is blamed before what fn makes of it.
	if failed == nil || isDamage(failed) {
		_, _ = io.Copy(io.Discard, counted) // its error is counted.err
	}
	switch sum := basebackup.Sum(c.Sum()); {
	case counted.err != nil:
		return named(at, counted.err)
	case failed != nil && !isDamage(failed):
		return failed
	case failed != nil && !whole:
		return named(at, failed)
	case counted.n != ref.Size || whole && sum != ref.SHA256:
		return damaged("its content has %d bytes and SHA-256 %x, that of this backup %d and %x", counted.n, sum, ref.Size, ref.SHA256)
	}
	return named(at, failed)
}

func isDamage(err error) bool {
	return errors.Is(err, stored.ErrDamaged) || errors.Is(err, basebackup.ErrDamaged)
}

// named puts a stored file's name in front of what is wrong with its content.
func named(at string, err error) error {
	if isDamage(err) {
		return fmt.Errorf("%s: %w", at, err)
	}
	return err
}

// counter counts what is read, and keeps the error that ended the reading.
type counter struct {
	r   io.Reader
	n   int64
	err error // but for io.EOF
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
