// Package layout says where things lie in an archive. Names are relative to the
// archive's root and slash-separated. It touches no store.
//
//	<system identifier>/
//	    walship.json                    what the archive is; written once
//	    wal/0000000100000000/…0A.zst    one folder for each timeline and log
//	    history/00000002.history.zst
//	    base/                           base backups
//	    refused/                        what push would not take, or found damaged
//	    drills/                         outcomes of drills; made by the first
//	    tmp/                            files on their way in
package layout

import (
	"encoding/hex"
	"path"
	"strconv"
	"strings"

	"walship/walname"
)

// Cluster is the part of an archive that belongs to one database cluster.
type Cluster struct {
	SystemID uint64
}

// Folder is the cluster's own.
func (c Cluster) Folder() string { return strconv.FormatUint(c.SystemID, 10) }

// ParseFolder reports which cluster the folder of that name belongs to.
func ParseFolder(name string) (Cluster, bool) {
	id, err := strconv.ParseUint(name, 10, 64)
	c := Cluster{id}
	return c, err == nil && id != 0 && c.Folder() == name
}

// Folders lists the folders that every cluster has, the topmost first.
func (c Cluster) Folders() []string {
	top := c.Folder()
	return []string{top, path.Join(top, "wal"), path.Join(top, "history"), path.Join(top, "base"),
		path.Join(top, "refused"), path.Join(top, "tmp")}
}

// IdentityFile is where the Identity lies.
func (c Cluster) IdentityFile() string { return path.Join(c.Folder(), "walship.json") }

// WAL is the folder of all segments.
func (c Cluster) WAL() string { return path.Join(c.Folder(), "wal") }

// Histories is the folder of the timeline history files.
func (c Cluster) Histories() string { return path.Join(c.Folder(), "history") }

// Refused is the folder of what push would not take.
func (c Cluster) Refused() string { return path.Join(c.Folder(), "refused") }

// Drills is the folder of what drills have come to. It is absent before the
// first one.
func (c Cluster) Drills() string { return path.Join(c.Folder(), "drills") }

// Tmp is the folder of files on their way in.
func (c Cluster) Tmp() string { return path.Join(c.Folder(), "tmp") }

// LogFolder is the folder of s: that of its timeline and log.
func (c Cluster) LogFolder(s walname.Segment) string {
	return path.Join(c.WAL(), s.String()[:16])
}

// Stem is where the file of that name lies, but for the extension that tells
// how it is stored.
func (c Cluster) Stem(n walname.Name) string {
	if n.Kind == walname.KindHistory {
		return path.Join(c.Histories(), n.String())
	}
	return path.Join(c.LogFolder(n.Segment), n.String())
}

// OtherPartial is where a partial segment lies whose own name is taken by other
// content. Two promotions inside one segment leave two of them.
func (c Cluster) OtherPartial(n walname.Name, sum [32]byte) string {
	return path.Join(c.LogFolder(n.Segment), n.Segment.String()+"."+hex.EncodeToString(sum[:4])+".partial")
}

// Voucher is the file that vouches for content stored plain, which cannot carry
// a record of its own. Its name holds the content's whole hash, so that whoever
// has read the content knows where to look, and two contents never share it.
func Voucher(stem string, sum [32]byte) string {
	return stem + "." + hex.EncodeToString(sum[:]) + ".sha256"
}

// SetAside is where refused content of that name is kept.
func (c Cluster) SetAside(n walname.Name, sum [32]byte) string {
	return path.Join(c.Refused(), n.String()+"."+hex.EncodeToString(sum[:4]))
}

// Damaged is where a stored file that was found damaged is moved to. token
// keeps two of them apart.
func (c Cluster) Damaged(stored, token string) string {
	return path.Join(c.Refused(), path.Base(stored)+"."+token+".damaged")
}

// ParseStored tells which WAL file the base name of a stored file stands for.
// known lists the extensions that a stored file may have.
func ParseStored(base string, known []string) (walname.Name, bool) {
	for _, ext := range known {
		if stem, ok := strings.CutSuffix(base, ext); ok {
			if n, err := walname.Parse(stem); err == nil {
				return n, true
			}
		}
	}
	return walname.Name{}, false
}
