package restore

import (
	"errors"
	"fmt"

	"walship/internal/basebackup"
	"walship/internal/crypt"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/walname"
)

// Restorer brings base backups of one archive back. Plan looks and decides, and
// writes nothing; Run carries a plan out. It is used by one goroutine at a time.
type Restorer struct {
	Store Store

	// Keys open what is encrypted.
	Keys *crypt.Keys

	// Warn is told, in one line, what the administrator should know of although
	// the restore goes on.
	Warn func(text string)

	// Progress, if not nil, is told how many bytes of files' contents have been
	// written since it was last called; less than 0 if a part has to be unpacked
	// again. It is called concurrently.
	Progress func(bytes int64)
}

// Options say what to restore, and where to. The zero value of each field but
// Dir and RestoreCommand is the default.
type Options struct {
	Cluster  uint64         // system identifier; 0: the archive's only cluster
	Backup   string         // the backup's name; "": the newest that suits
	Target   Target         // where recovery ends
	Timeline TimelineChoice // along which it goes
	Action   Action         // what the server does at the target

	Dir string // absolute path of the new data directory

	// Mapping says where tablespaces go that shall not lie where they did;
	// MapInto, if not "", is an absolute path below which all others go, each
	// into a folder named after its OID.
	Mapping []Mapping
	MapInto string

	// RestoreCommand is the server's, such as "/usr/bin/walship fetch %f %p".
	RestoreCommand string

	TakeOver     bool // leave archive_mode as it was: the copy takes the cluster's place
	Standby      bool // a standby, which goes on recovering; only with Latest
	MissingWALOK bool // recover as far as the WAL goes that is there

	// Owner is who gets the files if this process may give them away; nil: the
	// owner of Dir, if it exists and is not root's.
	Owner *Owner

	// Settings come last in the copy's configuration (from 12 on, and for what
	// belongs to postgresql.conf before).
	Settings []Setting
}

// Setting is one of a server's settings.
type Setting struct{ Name, Value string }

// Owner is a user and a group, by number.
type Owner struct{ UID, GID int }

// Mapping is a tablespace's old and new path, both absolute and clean.
type Mapping struct{ Old, New string }

// Action is what the server does when it has come to the target.
type Action string

// The actions. Default is Pause where the server can be looked at while it
// pauses, and Promote otherwise and for Latest.
const (
	Default  Action = ""
	Pause    Action = "pause"
	Promote  Action = "promote"
	Shutdown Action = "shutdown"
)

// TimelineChoice is a timeline by number, or by what it is to the archive or to
// the backup.
type TimelineChoice struct {
	Number  walname.Timeline // 0: not given
	Latest  bool             // asked for by this name: no question is asked back
	Current bool             // the backup's own
}

// Plan is what a restore is going to do. It holds true for the archive as it was
// when Plan looked.
type Plan struct {
	Options
	Cluster  layout.Cluster
	Manifest basebackup.Manifest
	Version  pgdata.Version
	Geometry walname.Geometry
	Timeline walname.Timeline // along which recovery goes

	// WAL that recovery reads: from First on, Last is the last one of it that is
	// archived. Last is zero if there is none.
	First, Last walname.Segment
	Segments    int64        // that are archived of it
	Missing     []SegmentRun // only with MissingWALOK

	Tablespaces []Place
	Notes       []string // what the choice was, where it was not obvious
}

// Place is where a tablespace goes.
type Place struct {
	OID      uint32
	From, To string // absolute paths; To is "" for one inside the data directory
}

// SegmentRun is a run of segments of one timeline.
type SegmentRun struct{ First, Last walname.Segment }

// String names one segment or the first and the last one.
func (r SegmentRun) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return fmt.Sprintf("%s to %s", r.First, r.Last)
}

// Result is what a restore has done.
type Result struct {
	Action  Action // what the server does at the target; Promote for Latest
	Resumed bool   // an earlier run had done all but the last step
}

// Classes of errors of Plan and Run, beside ErrArchive, ErrLocal,
// basebackup.ErrDamaged, stored.ErrDamaged, crypt.ErrNoKey, crypt.ErrIdentity and
// those of transport.
var (
	// ErrNoWay: the archive cannot bring the cluster to the target.
	ErrNoWay = errors.New("the archive cannot reach the target")
	// ErrOptions: the options contradict each other, the server's version or the
	// archive, or leave open what cannot be guessed.
	ErrOptions = errors.New("usage")
)
