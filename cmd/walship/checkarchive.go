package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"walship/archive"
	"walship/internal/crypt"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/restore"
	"walship/transport"
	"walship/walname"
)

// probeName is the name of a file that no other call uses, and that a sweep of
// temporary files takes away if this call dies.
func probeName() string {
	var random [8]byte
	rand.Read(random[:]) // never fails
	return "check." + hex.EncodeToString(random[:]) + ".tmp"
}

func contentOf(b []byte) transport.Source {
	return transport.Source{Write: func(w io.WriterAt) error {
		_, err := w.WriteAt(b, 0)
		return err
	}}
}

// newestFiles is how many of the newest segments have their heads read: a file
// that was cut short shows there. All files are the business of verify.
const newestFiles = 1000

// look takes stock of the archive.
func (c *checkup) look(ctx context.Context) {
	inv, err := archive.Take(ctx, c.store, c.cluster, archive.Look{Each: func(f archive.StoredFile) error {
		if f.Name.Kind == walname.KindSegment && f.Broken == "" {
			if c.newest = append(c.newest, f); len(c.newest) >= 2*newestFiles {
				c.newest = append(c.newest[:0], c.newest[newestFiles:]...)
			}
		}
		return nil
	}})
	if err != nil {
		c.fail("archive", critical, err)
		return
	}
	c.inv = inv
	c.newest = c.newest[max(0, len(c.newest)-newestFiles):]
	var segments, size int64
	for _, tl := range inv.Timelines {
		segments += tl.Count
		size += tl.Stored
	}
	c.figures.set("segments", float64(segments))
	c.figures.set("stored_bytes", float64(size))
	c.figures.set("timeline", float64(inv.Newest()))
	c.say("archive", healthy, "cluster %d, timeline %d, %d segments in %s", c.cluster.SystemID, inv.Newest(), segments, bytesText(size))
	c.checkRange()
	c.checkBackups()
	c.checkDrills(ctx)
	c.checkRefused()
	c.checkHeads(ctx)
	c.checkFetch(ctx)
}

// checkRange looks for gaps, and at what can be restored.
func (c *checkup) checkRange() {
	p := c.paint()
	c.figures.set("gaps", float64(len(c.inv.Gaps)))
	r, ok := c.inv.Range(c.inv.Newest())
	if ok {
		c.figures.set("restorable_from_timestamp_seconds", stamp(r.Oldest.Manifest.End))
		c.figures.set("restorable_to_timestamp_seconds", stamp(r.Stored))
	}
	switch {
	case ok && !r.Whole():
		c.say("gaps", critical, "%s is missing, and no base backup lies behind it: nothing later than %s can be restored", r.Missing, r.To)
		c.hint("if %s is still in pg_wal, push it: walship push PATH NAME; else take a base backup: walship backup", r.Missing)
	case len(c.inv.Gaps) == 1:
		g := c.inv.Gaps[0]
		c.say("gaps", warning, "%s", gapText(g))
		c.hint("backups before a gap cannot be restored beyond it; walship list shows which")
	case len(c.inv.Gaps) > 1:
		c.say("gaps", warning, "%d, the newest: %s", len(c.inv.Gaps), gapText(c.inv.Gaps[len(c.inv.Gaps)-1]))
		c.hint("backups before a gap cannot be restored beyond it; walship list shows which")
	default:
		c.say("gaps", healthy, "none")
	}
	if ok && r.Whole() {
		c.say("restorable", healthy, "from %s to %s, without a gap", p.time(r.Oldest.Manifest.End), p.time(r.Stored))
	}
}

func gapText(g archive.Gap) string {
	if g.Count == 1 {
		return g.First.String() + " is missing"
	}
	return fmt.Sprintf("%s to %s are missing", g.First, g.Last)
}

func stamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// checkBackups looks at the base backups.
func (c *checkup) checkBackups() {
	var newest *archive.Backup
	complete := 0
	for i, b := range c.inv.Backups {
		if b.Damage != "" {
			c.say("backup", critical, "%s is damaged: %s", b.ID, b.Damage)
		}
		if _, ok := c.inv.Restorable(b); ok && b.Usable() {
			complete++
			newest = &c.inv.Backups[i]
		}
	}
	c.figures.set("backups", float64(complete))
	if newest == nil {
		h := warning
		if c.backupAge == 0 {
			h = healthy
		}
		c.say("backup", h, "none can be restored")
		if h != healthy {
			c.hint("walship backup takes one; if they are kept elsewhere: --max-backup-age off")
		}
		return
	}
	end := newest.Manifest.End
	c.figures.set("last_backup_timestamp_seconds", stamp(end))
	age := c.now.Sub(end)
	h := healthy
	if c.backupAge > 0 && age > c.backupAge {
		h = warning
	}
	c.say("backup", h, "the newest of %d is %s old: %s", complete, ageText(age), newest.ID)
	if h != healthy {
		c.hint("recovery has to replay all WAL since then; walship backup takes a new one")
	}
}

// ageText writes a length of time for people.
func ageText(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return d.Round(time.Second).String()
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// checkRefused looks at what lies under refused/.
func (c *checkup) checkRefused() {
	n := len(c.inv.Refused)
	c.figures.set("refused_files", float64(n))
	if n == 0 {
		c.say("refused", healthy, "nothing")
		return
	}
	c.say("refused", warning, "%s, such as %s", files(int64(n)), c.inv.Refused[n-1].Name)
	c.hint("docs/guards.md tells what they are; once each is understood, move them out of refused/")
}

// checkHeads looks for files that cannot be whole.
func (c *checkup) checkHeads(ctx context.Context) {
	var mu sync.Mutex
	damaged := append([]archive.Broken(nil), c.inv.Broken...)
	known := make(map[string]bool)
	for _, b := range damaged {
		known[b.Name] = true
	}
	var failed error
	var all sync.WaitGroup
	slots := make(chan struct{}, 32)
	for _, f := range c.newest {
		if known[f.Stored] {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			why, err := c.headOf(ctx, f)
			mu.Lock()
			defer mu.Unlock()
			if why != "" {
				damaged = append(damaged, archive.Broken{Name: f.Stored, Why: why})
			}
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	all.Wait()
	c.figures.set("damaged_files", float64(len(damaged)))
	switch {
	case len(damaged) > 0:
		c.say("files", critical, "%d damaged: %s: %s", len(damaged), damaged[0].Name, damaged[0].Why)
		c.hint("if PostgreSQL still has the file, push it again, which puts it right: walship push PATH NAME; walship verify reads all files")
	case failed != nil:
		c.fail("files", unknown, failed)
	default:
		c.say("files", healthy, "the newest %d segments have the size that was stored", len(c.newest))
	}
}

// headOf compares a segment's size and name with its own record.
func (c *checkup) headOf(ctx context.Context, f archive.StoredFile) (why string, err error) {
	if stored.CodecOf(f.Stored) == stored.Plain {
		return "", nil // the listing has told all that there is to know
	}
	head, err := c.store.Head(ctx, f.Stored, stored.HeadSize)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // gone since
	}
	if err != nil {
		return "", err
	}
	r, err := stored.ParseHead(head.Data, head.Size)
	switch {
	case err != nil:
		return err.Error(), nil
	case r.Name != f.Name.String() || r.SystemID != c.cluster.SystemID:
		return fmt.Sprintf("its record says that it is %s of cluster %d", r.Name, r.SystemID), nil
	}
	return "", nil
}

// dataDir is the data directory, or what is known of it from the archive.
func (c *checkup) dataDir() *pgdata.Dir {
	if c.data != nil {
		return c.data
	}
	d := &pgdata.Dir{Control: pgdata.Control{SystemID: c.cluster.SystemID, SegmentSize: c.inv.Identity.SegmentSize}}
	version, err := pgdata.ParseVersion(c.inv.Version)
	if err != nil {
		version, _ = pgdata.ParseVersion("18") // one that uses every segment, as most do
	}
	d.Version = version
	return d
}

// checkFetch fetches the newest segment, as a standby would.
func (c *checkup) checkFetch(ctx context.Context) {
	if len(c.newest) == 0 {
		c.say("fetch", warning, "there is no segment to fetch")
		return
	}
	last := c.newest[len(c.newest)-1]
	c.figures.set("last_stored_timestamp_seconds", stamp(last.ModTime))
	dir, err := os.MkdirTemp("", "walship-check-")
	if err != nil {
		c.fail("fetch", unknown, err)
		return
	}
	defer os.RemoveAll(dir)
	warned := ""
	f := &restore.Fetcher{Store: c.store, Keys: keys(c.conf), HeaderCheck: c.conf.HeaderCheck, Warn: func(text string) { warned = text }}
	began := time.Now()
	err = f.Fetch(ctx, restore.Request{Name: last.Name.String(), Path: filepath.Join(dir, last.Name.String()), Data: c.dataDir(), Mode: pgdata.ByHand})
	switch {
	case errors.Is(err, crypt.ErrNoKey) && c.conf.IdentityFile == "":
		c.say("fetch", healthy, "not tried: %s is encrypted, and no identity_file is set here", last.Name)
	case err != nil:
		c.fail("fetch", critical, err)
	case warned != "":
		c.say("fetch", warning, "%s: %s", last.Name, warned)
	default:
		c.say("fetch", healthy, "%s was fetched and is whole, in %v", last.Name, time.Since(began).Round(time.Millisecond))
	}
}
