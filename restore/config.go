package restore

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"walship/internal/pgdata"
	"walship/internal/stored"
)

// Configuration files of a data directory.
const (
	mainConf = "postgresql.conf"
	autoFile = "postgresql.auto.conf"
)

// config configures the copy: the recovery, archiving, and, where the server kept
// its configuration elsewhere, that too.
func (r *Restorer) config(ctx context.Context, p *Plan, t *tree, res *Result) error {
	if err := r.ownConf(ctx, p, t); err != nil {
		return err
	}
	conf, err := p.readConf(mainConf)
	if err != nil {
		r.warn("%s of the copy cannot be read as it is: %v", mainConf, err)
	}
	auto, err := t.ReadFile(autoFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return local(err)
	}
	var autoSettings []pgdata.Setting
	if p.Version >= 90400 {
		if autoSettings, err = p.readConf(autoFile); err != nil {
			r.warn("%s of the copy cannot be read: %v", autoFile, err)
		}
	}
	action := p.action(append(conf, autoSettings...))
	ours := p.recovery(conf, action)
	server := p.server(action)

	appended := p.elsewhere(conf, t, r)
	if p.Version < 90400 {
		appended = append(appended, server...)
	}
	if len(appended) > 0 {
		if err := local(t.appendConf(appended)); err != nil {
			return err
		}
	}
	switch {
	case p.Version >= 120000:
		err = t.write(autoFile, []byte(autoConf(string(auto), append(server, ours...))))
	case p.Version >= 90400:
		err = errors.Join(t.write(autoFile, []byte(autoConf(string(auto), server))), t.write("recovery.conf", []byte(recoveryConf(ours, p.Version))))
	default:
		err = t.write("recovery.conf", []byte(recoveryConf(ours, p.Version)))
	}
	if err != nil {
		return local(err)
	}
	if p.Version >= 120000 {
		signal := "recovery.signal"
		if p.Standby {
			signal = "standby.signal"
		}
		return local(t.write(signal, nil))
	}
	return nil
}

// readConf reads one of the copy's configuration files with what it includes. One
// that is not there has no settings.
func (p *Plan) readConf(name string) ([]pgdata.Setting, error) {
	path := filepath.Join(p.Dir, name)
	settings, err := pgdata.ReadConf(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, there := state(path); there == nil {
			return nil, nil
		}
	}
	return settings, err
}

// settle says what the copy will do.
func (f *folders) settle(p *Plan, res *Result) error {
	conf, _ := p.readConf(mainConf) // what is wrong with it was said
	auto, _ := p.readConf(autoFile)
	res.Action = p.action(append(conf, auto...))
	return nil
}

// elsewhere are overrides of settings that lead out of the copy: to the data
// directory, the files and the pid file of the server it was taken from.
func (p *Plan) elsewhere(conf []pgdata.Setting, t *tree, r *Restorer) []Setting {
	var all []Setting
	leads := func(name string) bool {
		set, ok := pgdata.Lookup(conf, name)
		return ok && filepath.IsAbs(set.Value) && !within(filepath.Clean(set.Value), p.Dir)
	}
	if leads("data_directory") {
		all = append(all, Setting{"data_directory", p.Dir})
	}
	for name, file := range map[string]string{"hba_file": "pg_hba.conf", "ident_file": "pg_ident.conf"} {
		if !leads(name) {
			continue
		}
		if _, err := t.Lstat(file); err != nil {
			r.warn("%s of the copy leads out of it, and the backup has no %s", name, file)
			continue
		}
		all = append(all, Setting{name, filepath.Join(p.Dir, file)})
	}
	if set, ok := pgdata.Lookup(conf, "external_pid_file"); ok && set.Value != "" {
		all = append(all, Setting{"external_pid_file", ""})
	}
	if p.TakeOver {
		return all
	}
	// The log of the server that it was taken from, and standbys that do not
	// follow the copy: it would wait for them at its first commit.
	if leads("log_directory") {
		all = append(all, Setting{"log_directory", "log"})
	}
	if set, ok := pgdata.Lookup(conf, "synchronous_standby_names"); ok && set.Value != "" {
		all = append(all, Setting{"synchronous_standby_names", ""})
	}
	return all
}

// appendConf adds settings to postgresql.conf, where the last one counts.
func (t *tree) appendConf(settings []Setting) error {
	old, err := t.ReadFile(mainConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := strings.TrimRight(string(old), "\n") + "\n\n# Added by walship restore.\n"
	for _, s := range settings {
		text += s.line()
	}
	return t.write(mainConf, []byte(text))
}

// maxConfig bounds the configuration files of a backup, in bytes.
const maxConfig = 16 << 20

// configFiles reads the configuration that lay outside the data directory, by
// absolute path.
func (r *Restorer) configFiles(ctx context.Context, p *Plan) (files map[string][]byte, err error) {
	ref := *p.Manifest.Config
	if ref.Size > maxConfig {
		return nil, fmt.Errorf("%s: %w: its content has %d bytes", path.Join(p.folder(), ref.Name), stored.ErrDamaged, ref.Size)
	}
	err = r.patiently(ctx, func() error {
		files = make(map[string][]byte)
		return r.content(ctx, p, ref, func(content io.Reader) error {
			archive := tar.NewReader(content)
			for {
				h, err := archive.Next()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return fmt.Errorf("%w: %v", stored.ErrDamaged, err)
				}
				if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
					continue
				}
				text, err := io.ReadAll(archive)
				if err != nil {
					return fmt.Errorf("%w: %s: %v", stored.ErrDamaged, h.Name, err)
				}
				files[path.Clean("/"+h.Name)] = text
			}
		})
	})
	return files, err
}
