package pgserver

import (
	"context"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"walship/internal/lazyre"
	"walship/internal/pgdata"
)

// ConfigFile is a configuration file that lies outside the data directory.
type ConfigFile struct {
	Path    string      // absolute, on the server
	Mode    fs.FileMode // permission bits; 0600 if they could not be seen
	Content []byte
}

// maxConfigFile bounds what is taken for a configuration file, in bytes.
const maxConfigFile = 8 << 20

// ConfigFiles returns the server's configuration files that lie outside its data
// directory, as on Debian: postgresql.conf, pg_hba.conf, pg_ident.conf and the
// files that they include, each as it is now. What cannot be known or read is
// told to warn, and is no error. Files come from the server where the role may
// read them, else from this machine if the server runs here.
func (c *Conn) ConfigFiles(ctx context.Context, warn func(string)) ([]ConfigFile, error) {
	rows, err := c.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name IN ('data_directory', 'config_file', 'hba_file', 'ident_file')`)
	if err != nil {
		return nil, err
	}
	data, names := "", map[string]bool{}
	for _, row := range rows {
		switch {
		case row[0] == "data_directory":
			data = plain(row[1])
		case plain(row[1]) != "":
			names[path.Clean(row[1])] = true
		}
	}
	if data == "" || len(names) == 0 {
		warn("configuration files outside the data directory, if there are any, are not saved: role " + c.to.user +
			" may not see where they lie (it takes a superuser, or from PostgreSQL 10 on a member of pg_read_all_settings)")
		return nil, nil
	}
	c.included(ctx, names)
	queue := sorted(names)
	var files []ConfigFile
	for len(queue) > 0 {
		name := queue[0]
		queue = queue[1:]
		if !path.IsAbs(name) || within(data, name) {
			continue
		}
		f, err := c.configFile(ctx, name)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			warn("configuration file " + name + " is not saved: " + err.Error())
			continue
		}
		files = append(files, f)
		for _, more := range includes(f) {
			if !names[more] {
				names[more] = true
				queue = append(queue, more)
			}
		}
	}
	slices.SortFunc(files, func(a, b ConfigFile) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// includeLine matches a line that includes a single file.
var includeLine = lazyre.MustCompile(`(?im)^[ \t]*include(?:_if_exists)?[ \t]*=?[ \t]*'([^'\n]+)'`)

// includes are the files that one includes by name: the server's views do not
// show those that set nothing.
func includes(f ConfigFile) []string {
	var names []string
	for _, m := range includeLine().FindAllSubmatch(f.Content, 100) {
		name := string(m[1])
		if !path.IsAbs(name) {
			name = path.Join(path.Dir(f.Path), name)
		}
		names = append(names, path.Clean(name))
	}
	return names
}

// included adds the files that the others include, as far as the server tells.
func (c *Conn) included(ctx context.Context, names map[string]bool) {
	if c.Local() {
		for name := range maps.Clone(names) {
			settings, _ := pgdata.ReadConf(name) // of pg_hba.conf for one there are none
			for _, s := range settings {
				names[s.File] = true
			}
		}
	}
	for _, view := range []struct {
		name string
		from int
	}{{"pg_settings WHERE sourcefile IS NOT NULL", 0}, {"pg_file_settings", int(version95)}, {"pg_hba_file_rules", 160000}, {"pg_ident_file_mappings", 160000}} {
		column := "file_name"
		if view.from < 160000 {
			column = "sourcefile"
		}
		if int(c.version) < view.from {
			continue
		}
		rows, err := c.Query(ctx, "SELECT DISTINCT "+column+" FROM "+view.name)
		if err != nil {
			continue // not for this role
		}
		for _, row := range rows {
			if row[0] != Null && row[0] != "" {
				names[path.Clean(row[0])] = true
			}
		}
	}
}

// configFile reads one.
func (c *Conn) configFile(ctx context.Context, name string) (ConfigFile, error) {
	f := ConfigFile{Path: name, Mode: 0o600}
	if c.Local() {
		if info, err := os.Stat(name); err == nil {
			f.Mode = info.Mode().Perm()
		}
	}
	content, err := c.readFile(ctx, name)
	if err == nil {
		f.Content = content
		return f, nil
	}
	if !c.Local() {
		return f, err
	}
	if f.Content, err = readBounded(name); err != nil {
		return f, err
	}
	return f, nil
}

// readFile reads a file of the server's, which takes a superuser or
// pg_read_server_files for one outside the data directory.
func (c *Conn) readFile(ctx context.Context, name string) ([]byte, error) {
	if c.version < version91 { // no pg_read_binary_file
		return nil, fs.ErrPermission
	}
	text, err := c.Value(ctx, "SELECT encode(pg_read_binary_file("+Literal(name)+"), 'hex')")
	if err != nil {
		return nil, err
	}
	return unhex(text)
}

func readBounded(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConfigFile {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxConfigFile))
}

// within reports whether a path lies in a folder, also by way of symbolic links
// if both are on this machine.
func within(dir, name string) bool {
	below := func(dir, name string) bool {
		return strings.HasPrefix(name, strings.TrimSuffix(path.Clean(dir), "/")+"/")
	}
	if below(dir, name) {
		return true
	}
	realDir, err1 := filepath.EvalSymlinks(dir)
	realName, err2 := filepath.EvalSymlinks(name)
	return err1 == nil && err2 == nil && below(realDir, realName)
}
