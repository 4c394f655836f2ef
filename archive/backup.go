package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"sync"
	"time"

	"walship/internal/async"
	"walship/internal/basebackup"
	"walship/internal/crypt"
	"walship/internal/fault"
	"walship/internal/layout"
	"walship/internal/stored"
	"walship/transport"
	"walship/walname"
)

// BackupStore is the archive, as far as a backup needs it: what is unfinished
// is removed again.
type BackupStore interface {
	Store
	Remove(ctx context.Context, name string) error
	RemoveAll(ctx context.Context, names []string) (int, error)
	RemoveFolder(ctx context.Context, dir string) error
	Now(ctx context.Context, dir string) (time.Time, error)
}

// ErrWAL says that WAL which a backup needs has not come into the archive.
var ErrWAL = errors.New("WAL is missing in the archive")

// Backuper stores base backups in one archive. It is for one backup at a time.
type Backuper struct {
	Store   BackupStore
	Walship string // the version that the manifest names

	// Config are configuration files from outside the data directory, which are
	// stored beside it.
	Config []ConfigFile

	// WALLimit is how long the backup, once copied, waits for the WAL that it
	// needs. The archive is asked at least once.
	WALLimit time.Duration

	// Progress, if not nil, is told of bytes that have been read from the server.
	Progress func(n int64)

	// Waiting, if not nil, is told every few seconds what is still missing.
	Waiting func(WALWait)

	// Recipients are those of a Pusher.
	Recipients *crypt.Recipients

	// Say, if not nil, is told in one line what is being done beside the backup,
	// Warn what the administrator should know of although it goes on.
	Say, Warn func(text string)

	own layout.Identity // what Check has read

	// For tests; zero values stand for those of the constants.
	partSize  int64
	listFiles int
	partFiles int
	pauses    []time.Duration
}

// ConfigFile is a configuration file from outside the data directory.
type ConfigFile struct {
	Path    string // absolute, on the server
	Mode    uint32 // permission bits
	Content []byte
}

// partSize is how large a part becomes, in bytes before compression. A file is
// never divided: one that is larger is alone in its part.
const partSize = 64 << 20

// inFlight is how many parts are on their way to the archive at once: one is
// being read while the archive puts those before it on stable storage. Memory is
// bounded by it.
const inFlight = 3

// listFiles is the number of files from which on a list is full.
const listFiles = 20000

// cleanupLimit bounds the removal of what an unfinished backup has stored.
const cleanupLimit = 8 * time.Second

// Check tells whether the archive is the cluster's, before a server is asked
// for anything.
func (b *Backuper) Check(ctx context.Context, systemID uint64, segmentSize int64) error {
	own, err := b.identity(ctx, systemID, segmentSize)
	if err == nil {
		_, err = formOf(own, b.Recipients)
	}
	b.own = own
	return err
}

func (b *Backuper) identity(ctx context.Context, systemID uint64, segmentSize int64) (layout.Identity, error) {
	p := &Pusher{Store: b.Store}
	return p.owner(ctx, &file{cluster: layout.Cluster{SystemID: systemID}, geometry: walname.Geometry{SegmentSize: segmentSize}})
}

// Run stores the base backup that begin begins, and returns its manifest. Nil
// means that the backup is in the archive, on stable storage, and with it all WAL
// from its start to its end. After an error there is no backup: what was stored
// of it has been removed, as far as that was possible in a few seconds, and its
// manifest, without which it is none, in any case; an error that says otherwise
// says so. Begin's context ends with Run.
func (b *Backuper) Run(ctx context.Context, begin func(context.Context) (basebackup.Source, error)) (basebackup.Manifest, error) {
	fault.At("backup.begin")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	src, err := begin(ctx)
	if err != nil {
		return basebackup.Manifest{}, err
	}
	r, err := b.newRun(ctx, cancel, src.Info())
	if err == nil {
		fault.At("backup.started")
		err = r.run(ctx, src)
	}
	cancel(err)
	closed := src.Close()
	if r == nil {
		return basebackup.Manifest{}, err
	}
	if err != nil {
		return basebackup.Manifest{}, r.abandon(context.WithoutCancel(ctx), err)
	}
	if closed != nil { // it was finished before
		b.warn(fmt.Sprintf("backup %s is stored; closing the connection to the server: %v", r.id, closed))
	}
	return r.manifest, nil
}

// backupRun is one backup on its way.
type backupRun struct {
	*Backuper
	cancel   context.CancelCauseFunc
	info     basebackup.Info
	cluster  layout.Cluster
	geometry walname.Geometry
	as       form // of all but the manifest
	id       basebackup.ID
	folder   string
	slots    chan struct{}
	manifest basebackup.Manifest

	mu         sync.Mutex
	names      map[string]int64 // stored size of what was put; -1 if it was perhaps put
	publishing bool             // the manifest may be there
}

// newRun checks whose archive it is and finds the backup a folder of its own.
func (b *Backuper) newRun(ctx context.Context, cancel context.CancelCauseFunc, info basebackup.Info) (*backupRun, error) {
	own := b.own
	if own.SystemID != info.SystemID || own.SegmentSize != info.SegmentSize {
		var err error
		if own, err = b.identity(ctx, info.SystemID, info.SegmentSize); err != nil {
			return nil, err
		}
	}
	geometry, err := walname.NewGeometry(info.SegmentSize, info.SkipFF)
	if err != nil {
		return nil, err
	}
	as, err := formOf(own, b.Recipients)
	if err != nil {
		return nil, err
	}
	r := &backupRun{
		Backuper: b, cancel: cancel, info: info, geometry: geometry,
		cluster: layout.Cluster{SystemID: info.SystemID},
		as:      as,
		id:      basebackup.ID{Start: geometry.At(info.Timeline, info.StartLSN), Time: info.Begin.UTC().Truncate(time.Second)},
		slots:   make(chan struct{}, inFlight),
		names:   make(map[string]int64),
	}
	// Another backup may have begun within the same second.
	for ; ; r.id.Time = r.id.Time.Add(time.Second) {
		r.folder = basebackup.Folder(r.cluster, r.id)
		err := b.Store.List(ctx, r.folder, func(transport.FileInfo) error { return fs.SkipAll })
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	r.manifest = basebackup.Manifest{
		Backup:      r.id.String(),
		SystemID:    info.SystemID,
		PostgreSQL:  info.PostgreSQL,
		Server:      info.ServerVersion,
		SegmentSize: info.SegmentSize,
		Method:      info.Method,
		Standby:     info.Standby,
		Checksums:   info.Checksums,
		Label:       info.Label,
		Begin:       info.Begin,
		Timeline:    info.Timeline,
		StartLSN:    info.StartLSN,
		Tablespaces: []basebackup.Tablespace{},
		Lists:       []basebackup.Ref{},
		Walship:     b.Walship,
	}
	for _, t := range info.Tablespaces {
		r.manifest.Tablespaces = append(r.manifest.Tablespaces, basebackup.Tablespace{OID: t.OID, Location: t.Location})
	}
	return r, nil
}

// run is the order of a backup's steps: its manifest comes last. The last parts
// are still on their way while the server ends the backup and archives its WAL.
func (r *backupRun) run(ctx context.Context, src basebackup.Source) error {
	config := async.Go(func() (*basebackup.Ref, error) { return r.putConfig(ctx) })
	lists, err := r.copy(ctx, src)
	if err == nil {
		fault.At("backup.copied")
		err = r.end(ctx, src)
	}
	if err != nil {
		r.cancel(err) // what is on its way ends with it
	}
	refs, listErr := lists.Wait()
	saved, configErr := config.Wait()
	if err = cmp.Or(err, listErr, configErr); err != nil {
		return cmp.Or(context.Cause(ctx), err) // what came first
	}
	r.manifest.Lists = refs
	if saved != nil {
		r.manifest.Config = saved
		r.manifest.StoredSize += saved.StoredSize
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	fault.At("backup.published")
	return nil
}

// end lets the server end the backup, and waits for its WAL.
func (r *backupRun) end(ctx context.Context, src basebackup.Source) error {
	end, err := src.Finish()
	if err != nil {
		return err
	}
	fault.At("backup.ended")
	r.manifest.EndLSN, r.manifest.End = end.EndLSN, end.End
	if end.Timeline != r.info.Timeline {
		return fmt.Errorf("the server went over from timeline %d to %d during the backup: run it again", r.info.Timeline, end.Timeline)
	}
	if err := r.waitWAL(ctx, end); err != nil {
		return err
	}
	fault.At("backup.wal")
	return nil
}

// publish stores the manifest. From then on there is a backup.
func (r *backupRun) publish(ctx context.Context) error {
	data, err := r.manifest.Marshal()
	if err != nil {
		return err
	}
	if _, err := basebackup.ParseManifest(data, r.id); err != nil {
		return fmt.Errorf("what the server said of the backup cannot be: %w", err)
	}
	if len(data) > basebackup.MaxManifestSize {
		return fmt.Errorf("its manifest would have %d bytes, %d are the most there may be", len(data), basebackup.MaxManifestSize)
	}
	if err := r.complete(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	r.publishing = true
	r.mu.Unlock()
	// It is not encrypted: what the archive holds has to be known without the key.
	_, err = r.putBytes(ctx, basebackup.ManifestFile, form{codec: stored.Plain}, data)
	return err
}

// complete looks a last time whether all that was put is there in its full size:
// hours have passed, and nobody else has looked.
func (r *backupRun) complete(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	missing := maps.Clone(r.names)
	err := r.Store.List(ctx, r.folder, func(e transport.FileInfo) error {
		if missing[e.Name] == e.Size {
			delete(missing, e.Name)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for name := range missing {
		return fmt.Errorf("%w: %s was stored and has been removed or altered since", ErrArchive, r.path(name))
	}
	return nil
}

// path is where the file of that name lies, in the archive.
func (r *backupRun) path(name string) string { return path.Join(r.folder, name) }

func (b *Backuper) say(text string) {
	if b.Say != nil {
		b.Say(text)
	}
}

func (b *Backuper) warn(text string) {
	if b.Warn != nil {
		b.Warn(text)
	}
}
