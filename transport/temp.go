package transport

import (
	"crypto/rand"
	"encoding/hex"
	"path"
	"regexp"
	"strings"
	"sync"
)

// Temporary files lie in the folder "tmp" beside the top folder's other
// contents (for a name without a folder, in "tmp" at the root), so that
// publishing one never crosses a file system and a listing of WAL never sees one.

// Compiled when it is used: each push and fetch would pay for it.
var tempPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\.[0-9a-f]{16}\.tmp$`) })

// tempName returns a new name for the temporary file of name. No two calls
// return the same: writers of one name must never share a file.
func tempName(name string) string {
	var random [8]byte
	rand.Read(random[:]) // never fails
	return path.Join(topFolder(name), "tmp", path.Base(name)+"."+hex.EncodeToString(random[:])+".tmp")
}

// topFolder is the first element of name's folder, "" if it lies in the root.
// Put makes every folder below it that is missing, but never the top folder
// itself: where that is absent a disk may not be mounted.
func topFolder(name string) string {
	top, _, found := strings.Cut(name, "/")
	if !found {
		return ""
	}
	return top
}

// isTemp reports whether base is the name of a temporary file.
func isTemp(base string) bool { return tempPattern().MatchString(base) }
