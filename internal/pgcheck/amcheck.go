package pgcheck

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"walship/internal/lazyre"
)

// amcheck runs pg_amcheck over the databases, or over the tables of the sample.
func (o Options) amcheck(ctx context.Context, program string, databases []string, result *Result) error {
	common := []string{"--host", o.Host, "--port", strconv.Itoa(o.Port), "--username", o.User,
		"--jobs", strconv.Itoa(max(1, o.Jobs)), "--install-missing", "--progress", "--no-strict-names"}
	for _, database := range databases {
		if err := o.update(ctx, database); err != nil {
			return err
		}
	}
	if o.Share >= 1 {
		return o.runAmcheck(ctx, program, append(common, "--all"), result)
	}
	s := newSample(o.Share, o.Seed)
	for _, database := range databases {
		c, err := o.connect(ctx, database)
		if err != nil {
			return err
		}
		var patterns []string
		size := 0
		flush := func() error {
			if len(patterns) == 0 {
				return nil
			}
			args := append(append([]string{}, common...), patterns...)
			patterns, size = nil, 0
			return o.runAmcheck(ctx, program, args, result)
		}
		err = o.relations(ctx, c, s, false, func(r relation) error {
			pattern := "--table=" + ident(database) + "." + r.quoted()
			patterns = append(patterns, pattern)
			if size += len(pattern); size < maxPatterns {
				return nil
			}
			return flush()
		})
		if err == nil {
			err = flush()
		}
		if err = errors.Join(err, c.Close()); err != nil {
			return err
		}
	}
	return nil
}

// update brings the extension to its newest version where it is there already: an
// older one lacks functions that pg_amcheck calls, which would look like damage.
func (o Options) update(ctx context.Context, database string) error {
	c, err := o.connect(ctx, database)
	if err != nil {
		return err
	}
	defer c.Close()
	there, err := c.Value(ctx, "SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'")
	if err == nil && there != "0" {
		_, err = c.Query(ctx, "ALTER EXTENSION amcheck UPDATE")
	}
	if err != nil {
		return fmt.Errorf("%w: database %s: %w", ErrCheck, database, err)
	}
	return nil
}

// maxPatterns bounds the arguments of one call, bytes.
const maxPatterns = 30 << 10

// progressLine is what --progress writes: how many relations and pages are done,
// and of how many.
var progressLine = lazyre.MustCompile(`(\d+)/(\d+) relations \(\s*\d+%\),\s*(\d+)/(\d+) pages`)

// blockSize is that of nearly every server; what it counts is only shown.
const blockSize = 8192

func (o Options) runAmcheck(ctx context.Context, program string, args []string, result *Result) error {
	cmd := o.Owner.Command(program, args...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", ErrCheck, err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-ctx.Done():
			_ = syscall.Kill(cmd.Process.Pid, syscall.SIGTERM) // it may have ended
			select {
			case <-ended:
			case <-time.After(2 * time.Second):
				_ = cmd.Process.Kill()
			}
		case <-ended:
		}
	}()
	problems := make(chan int64)
	go func() { problems <- o.problems(stdout) }()
	var relations, pages int64
	skipped := ""
	complaint := eachLine(stderr, func(line string) bool {
		m := progressLine().FindStringSubmatch(line)
		if strings.Contains(line, "skipping database") {
			skipped = line
		}
		if m == nil {
			return false
		}
		relations, _ = strconv.ParseInt(m[1], 10, 64) // digits
		now, _ := strconv.ParseInt(m[3], 10, 64)
		if o.Progress != nil && now > pages {
			o.Progress((now - pages) * blockSize)
		}
		pages = max(pages, now)
		return true
	})
	found := <-problems
	err = cmd.Wait()
	result.Relations += relations
	result.Bytes += pages * blockSize
	result.Problems += found
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && skipped != "":
		return fmt.Errorf("%w: %s", ErrCheck, skipped)
	case err == nil:
		return nil
	case errors.As(err, &exit) && exit.ExitCode() == 2 && found > 0:
		return nil // damage, which is counted
	}
	return fmt.Errorf("%w: pg_amcheck: %w: %s", ErrCheck, err, complaint)
}

// problems reads pg_amcheck's report: a line for what is damaged, and indented
// ones for how.
func (o Options) problems(r io.Reader) (count int64) {
	var problem string
	flush := func() {
		if problem != "" {
			count++
			o.found(problem)
		}
		problem = ""
	}
	eachLine(r, func(line string) bool {
		switch {
		case strings.HasPrefix(line, " ") && problem != "":
			if len(problem) < 1000 {
				problem += " " + strings.TrimSpace(line)
			}
		case strings.TrimSpace(line) != "":
			flush()
			problem = strings.TrimSpace(line)
		}
		return true
	})
	flush()
	return count
}

// eachLine calls fn with each line and returns the last of those for which it
// says false.
func eachLine(r io.Reader, fn func(string) bool) (last string) {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadString('\n')
		for _, part := range strings.Split(strings.TrimRight(line, "\r\n"), "\r") {
			if strings.TrimSpace(part) != "" && !fn(part) {
				last = strings.TrimSpace(part)
			}
		}
		if err != nil {
			return last
		}
	}
}
