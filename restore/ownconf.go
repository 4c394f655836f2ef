package restore

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"walship/internal/lazyre"
)

// besideConf is the folder for configuration files that did not lie with
// postgresql.conf.
const besideConf = "walship-config"

// ownConf gives a copy without a postgresql.conf the one that its server kept
// outside the data directory, with the files beside it, and the pg_hba.conf and
// pg_ident.conf that it may lack.
func (r *Restorer) ownConf(ctx context.Context, p *Plan, t *tree) error {
	missing := func(name string) bool { _, err := t.Lstat(name); return errors.Is(err, fs.ErrNotExist) }
	if p.Manifest.Config == nil {
		if missing(mainConf) {
			r.warn("the backup has no %s: the copy needs one before it can start", mainConf)
		}
		return nil
	}
	files, err := r.configFiles(ctx, p)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(files))
	main := ""
	for _, name := range names {
		if path.Base(name) == mainConf {
			main = name
			break
		}
	}
	switch {
	case !missing(mainConf):
		main = ""
	case main == "":
		r.warn("the backup has no %s: the copy needs one before it can start", mainConf)
	default:
		r.warn("the server kept its configuration in %s; the copy has it in its own folder", path.Dir(main))
	}
	m := mover{files: files, from: path.Dir(main), main: main, dir: p.Dir}
	for _, name := range names {
		to := m.place(name)
		if base := path.Base(name); base == "pg_hba.conf" || base == "pg_ident.conf" {
			to = base
		} else if main == "" {
			continue
		}
		if !missing(to) {
			continue
		}
		text := files[name]
		if strings.HasSuffix(name, ".conf") && path.Base(to) != "pg_hba.conf" && path.Base(to) != "pg_ident.conf" {
			text = []byte(m.includes(string(text), name))
		}
		if err := local(t.write(to, text)); err != nil {
			return err
		}
	}
	for _, dir := range m.folders {
		if err := local(t.mkdirs(dir)); err != nil {
			return err
		}
	}
	for _, lost := range m.lost {
		r.warn("the configuration includes %s, which is not in the backup: the line is commented out", lost)
	}
	return nil
}

// mover puts configuration files into the copy.
type mover struct {
	files   map[string][]byte // by absolute path
	from    string            // the folder of postgresql.conf
	main    string            // its path
	dir     string            // of the copy
	folders []string          // that includes name
	lost    []string          // includes of what there is not
}

// place is where the file of that absolute path goes, in the copy.
func (m *mover) place(name string) string {
	if within(name, m.from) && name != m.from {
		return strings.TrimPrefix(strings.TrimPrefix(name, m.from), "/")
	}
	return path.Join(besideConf, name)
}

var includeLine = lazyre.MustCompile(`(?i)^(\s*)(include|include_if_exists|include_dir)(\s*=\s*|\s+)'([^'\\]*)'`)

// includes makes the includes of the file lead to where the included files are
// in the copy.
func (m *mover) includes(text, name string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		f := includeLine().FindStringSubmatchIndex(line)
		if f == nil {
			b.WriteString(line)
			continue
		}
		at := line[f[8]:f[9]]
		if !path.IsAbs(at) {
			at = path.Join(path.Dir(name), at)
		}
		at = path.Clean(at)
		kind := strings.ToLower(line[f[4]:f[5]])
		_, isFile := m.files[at]
		isFolder := slices.ContainsFunc(slices.Collect(maps.Keys(m.files)), func(n string) bool { return within(n, at) && n != at })
		to := m.place(at)
		switch {
		case kind == "include_dir" && (isFolder || within(at, m.from)):
			m.folders = append(m.folders, to) // perhaps an empty one
		case kind != "include_dir" && isFile:
		case kind == "include_if_exists" && within(at, m.from):
		default:
			m.lost = append(m.lost, at)
			b.WriteString("#" + line)
			continue
		}
		b.WriteString(line[:f[8]] + filepath.Join(m.dir, to) + line[f[9]:])
	}
	return b.String()
}
