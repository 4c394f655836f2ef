// Package basebackup is the form in which a base backup lies in an archive: a
// folder of ordinary tar files, lists of what is in them, and a manifest that is
// published last. A folder without a manifest is no backup. The package reads and
// writes these texts; it moves no files.
//
//	base/000000010000000000000005-20261122T114500Z/
//	    base-000001.tar.zst       files of the data directory, each one whole
//	    16384-000001.tar.zst      files of a tablespace, which its OID names
//	    files-000001.jsonl.zst    what lies in which part, with size and SHA-256
//	    config.tar.zst            configuration files from outside the data directory
//	    backup_manifest.zst       the server's own manifest, from 13 on
//	    manifest.json             what the backup is, and the SHA-256 of all the lists
//
// The manifest vouches for the lists, a list for its parts and for every file in
// them, so that no file of another backup can take the place of one of this.
package basebackup

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"walship/internal/layout"
	"walship/walname"
)

// ID names a backup: the segment in which its checkpoint's redo position lies,
// from which recovery reads WAL, and the time at which it began, in UTC and whole
// seconds.
type ID struct {
	Start walname.Segment
	Time  time.Time
}

const timeForm = "20060102T150405Z"

// String returns the backup's name, which is that of its folder. Names sort by
// timeline and position, then by time.
func (id ID) String() string { return id.Start.String() + "-" + id.Time.UTC().Format(timeForm) }

// ParseID reads what String prints, and nothing else.
func ParseID(s string) (ID, error) {
	segment, when, _ := strings.Cut(s, "-")
	n, err := walname.Parse(segment)
	if err != nil || n.Kind != walname.KindSegment {
		return ID{}, fmt.Errorf("backup %q is not of the form 000000010000000000000005-20261122T114500Z", s)
	}
	t, err := time.Parse(timeForm, when)
	id := ID{n.Segment, t}
	if err != nil || id.String() != s {
		return ID{}, fmt.Errorf("backup %q is not of the form 000000010000000000000005-20261122T114500Z", s)
	}
	return id, nil
}

// Root is the folder of all of a cluster's backups, Folder that of one.
func Root(c layout.Cluster) string { return path.Join(c.Folder(), "base") }

// Folder is where the backup lies in the archive.
func Folder(c layout.Cluster, id ID) string { return path.Join(Root(c), id.String()) }

// Names of a backup's files, in its folder. Where they are followed by the
// extension of a codec, the content is stored like a WAL file, with the name
// here in its record.
const (
	ManifestFile       = "manifest.json" // as it is, without a codec
	ServerManifestFile = "backup_manifest"
	ConfigFile         = "config.tar"
)

// PartName is the name of the n-th part, from 1, of a tablespace; 0 is the data
// directory itself.
func PartName(tablespace uint32, n int) string {
	stem := "base"
	if tablespace != 0 {
		stem = strconv.FormatUint(uint64(tablespace), 10)
	}
	return fmt.Sprintf("%s-%06d.tar", stem, n)
}

// ListName is the name of the n-th list, from 1.
func ListName(n int) string { return fmt.Sprintf("files-%06d.jsonl", n) }
