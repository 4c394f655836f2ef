package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxFile is more than any configuration needs: it keeps a wrong --config from
// filling the memory.
const maxFile = 1 << 20

// readFile reads the file in Config.File, which came from origin, or else the
// first default file that exists, whose name it stores there. Without any it
// returns nil.
func (l *loader) readFile(origin string) (map[string]entry, error) {
	name := l.config.File
	if name != "" {
		data, err := read(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s (%s): %s", printable(name), origin, reason(err))
		}
		return parse(name, data)
	}
	for _, name := range l.defaultFiles() {
		l.config.searched = append(l.config.searched, name)
		data, err := read(name)
		// A home such as /dev/null answers ENOTDIR.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			// Passing over a file that may say otherwise would be a guess.
			return nil, fmt.Errorf("cannot read %s (searched by default, --config names another): %s", printable(name), reason(err))
		}
		l.config.File = name
		return parse(name, data)
	}
	return nil, nil
}

// defaultFiles returns the places of walship.toml, the first to be taken first.
// A user without a home has only the system's.
func (l *loader) defaultFiles() []string {
	system := filepath.Join(l.SystemDir, "walship.toml")
	dir, _ := l.LookupEnv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // by its specification, a relative one is to be ignored
		home, err := l.home()
		if err != nil {
			return []string{system}
		}
		dir = filepath.Join(home, ".config")
	}
	return []string{filepath.Join(dir, "walship", "walship.toml"), system}
}

// read returns the content of a file. What could block for good, such as a
// named pipe, is refused, and so is a file that every user of the machine may
// write to: it says where the WAL goes, and whom to trust.
func read(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); !mode.IsRegular() && mode&fs.ModeCharDevice == 0 { // /dev/null is welcome
		return nil, errors.New("not an ordinary file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // of what is read
		return nil, err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("every user of this machine may write to it (mode %04o): chmod o-w it, and see that it says what you wrote", info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, err
}

// reason returns the cause without the operation and the path, as text: see
// Load for why it is not wrapped.
func reason(err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}
