package pgserver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"walship/internal/lazyre"
)

// warned gathers WARNINGs that name a file: a server that verifies pages reports
// a damaged one in a WARNING, in whatever language, and only at the end that
// there was one.
type warned struct {
	files []string // that were named, each once
	texts []string // the first warning about each of the first of them
}

// namedFile matches a path as BASE_BACKUP writes it.
var namedFile = lazyre.MustCompile(`\./[0-9A-Za-z_./]*[0-9A-Za-z_]`)

// filesKept bounds how many files are told apart.
const filesKept = 1000

func (w *warned) add(text string) {
	file := namedFile().FindString(text)
	if file == "" || len(w.files) == filesKept || slices.Contains(w.files, file) {
		return
	}
	if w.files = append(w.files, file); len(w.files) <= maxFound {
		w.texts = append(w.texts, text)
	}
}

// text is what the server said before it gave up with that error.
func (w *warned) text(said *pgconn.PgError) string {
	if len(w.texts) == 0 {
		return "the server says: " + strings.ToValidUTF8(said.Message, "?")
	}
	text := "the server says: " + strings.Join(w.texts, "; ")
	if more := len(w.files) - len(w.texts); more > 0 {
		text += fmt.Sprintf("; and %d more files", more)
	}
	return text
}
