package pgserver

import (
	"strings"

	"walship/internal/lazyre"
)

// What the server's own BASE_BACKUP leaves out, by its basebackup.c: what a
// server makes anew at each start, and what belongs to the one that runs.

// emptied are folders of the data directory that a backup holds without their
// content.
var emptied = map[string]bool{
	"pg_wal": true, "pg_xlog": true, "pg_replslot": true, "pg_dynshmem": true, "pg_notify": true,
	"pg_serial": true, "pg_snapshots": true, "pg_stat_tmp": true, "pg_subtrans": true,
}

// left are files of the data directory itself that are not in a backup. Label
// and map of this backup come from the server.
var left = map[string]bool{
	"postmaster.pid": true, "postmaster.opts": true, "postgresql.auto.conf.tmp": true, "current_logfiles.tmp": true,
	"backup_label": true, "backup_label.old": true, "tablespace_map": true, "tablespace_map.old": true, "backup_manifest": true,
}

// temporaryRelation matches the name of a file of a temporary table.
var temporaryRelation = lazyre.MustCompile(`^t[0-9]+_[0-9]+(?:_(?:fsm|vm|init))?(?:\.[0-9]+)?$`)

// leftOut reports whether a backup leaves out the name in the folder dir, which
// is "" for the data directory itself or a tablespace's own folder.
func leftOut(tablespace uint32, dir, name string) bool {
	switch {
	case strings.HasPrefix(name, "pgsql_tmp"), strings.HasPrefix(name, "pg_internal.init"):
		return true
	case tablespace == 0 && dir == "":
		return left[name]
	case tablespace == 0 && dir == "global":
		return name == "pg_control" // comes last
	}
	return holdsRelations(tablespace, dir) && temporaryRelation().MatchString(name)
}

// holdsRelations reports whether a folder is that of a database.
func holdsRelations(tablespace uint32, dir string) bool {
	parent, _, below := strings.Cut(dir, "/")
	return below && (tablespace != 0 || parent == "base")
}
