package pgdata

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// commandLine is what the server was started with.
type commandLine struct {
	dir      string    // of -D
	settings []Setting // of -c and of --name=value
}

// commandLine reads postmaster.opts, into which the server writes its command
// line when it starts. Without that file the command line is empty.
func (d *Dir) commandLine() (commandLine, error) {
	path := filepath.Join(d.Path, "postmaster.opts")
	text, err := read(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return commandLine{}, nil
		}
		return commandLine{}, err
	}
	return parseOptions(path, splitOptions(string(text))), nil
}

// StartFolder is the folder in which the server's command line, as it stands in
// postmaster.opts, leads to this data directory: a restart repeats it. It is "/"
// if the line names the directory by an absolute path or not at all; false means
// that it cannot be known.
func (d *Dir) StartFolder() (string, bool) {
	line, err := d.commandLine()
	if err != nil {
		return "", false
	}
	if line.dir == "" || filepath.IsAbs(line.dir) {
		return "/", true
	}
	relative := filepath.Clean(line.dir)
	if relative == "." {
		return d.Path, true
	}
	folder, ok := strings.CutSuffix(d.Path, "/"+relative)
	if folder == "" {
		folder = "/"
	}
	return folder, ok
}

// splitOptions returns the arguments in a line of postmaster.opts: the program,
// then each argument behind a space and between double quotes, of which none is
// escaped.
func splitOptions(line string) []string {
	line = strings.TrimRight(line, "\r\n")
	_, args, found := strings.Cut(line, ` "`)
	if !found {
		return nil
	}
	return strings.Split(strings.TrimSuffix(args, `"`), `" "`)
}

// withValue are the server's options that take a value, in the same argument or
// in the next one; -- stands for long options, which getopt sees as -'-'.
const withValue = "ABCDNSWbcdfhkmoprtv-"

// parseOptions reads the arguments as the server's own getopt does. The first
// one that is no option ends them.
func parseOptions(path string, args []string) commandLine {
	var line commandLine
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' || arg == "--" {
			break
		}
		for arg = arg[1:]; arg != ""; {
			option := arg[0]
			arg = arg[1:]
			if strings.IndexByte(withValue, option) < 0 {
				continue
			}
			if arg == "" && option != '-' {
				if i++; i == len(args) {
					return line
				}
				arg = args[i]
			}
			switch option {
			case 'D':
				line.dir = arg
			case 'c', '-':
				name, value, _ := strings.Cut(arg, "=")
				name = lower(strings.ReplaceAll(name, "-", "_"))
				line.settings = append(line.settings, Setting{Name: name, Value: value, File: path, Line: 1})
			}
			break
		}
	}
	return line
}
