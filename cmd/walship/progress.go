package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows on standard error how far a long command has come: as a bar on
// a terminal, elsewhere as a line a minute. It may be used concurrently.
type progress struct {
	v     *voice
	what  string // "backup", "restore"
	began time.Time
	bar   *progressbar.ProgressBar // nil: lines
	quit  chan struct{}
	once  sync.Once

	mu          sync.Mutex
	done, total int64
}

// linePause is the time between two lines.
const linePause = time.Minute

// progress begins to show, unless it is to be quiet. total is in bytes, 0 if it is
// not known.
func (v *voice) progress(what string, total int64) *progress {
	p := &progress{v: v, what: what, began: time.Now(), total: total, quit: make(chan struct{})}
	if v.quiet {
		return p
	}
	if isTerminal(v.err) {
		p.bar = progressbar.NewOptions64(barTotal(total),
			progressbar.OptionSetWriter(v.err),
			progressbar.OptionSetDescription("walship: "+what),
			progressbar.OptionShowBytes(true),
			progressbar.OptionShowTotalBytes(true),
			progressbar.OptionThrottle(200*time.Millisecond),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetWidth(16),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionUseANSICodes(os.Getenv("NO_COLOR") == ""),
		)
		return p
	}
	go func() {
		tick := time.NewTicker(linePause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.v.say("%s", p.line())
			case <-p.quit:
				return
			}
		}
	}()
	return p
}

// barTotal is the library's word for "not known".
func barTotal(total int64) int64 {
	if total <= 0 {
		return -1
	}
	return total
}

// add counts bytes that are done.
func (p *progress) add(n int64) {
	p.mu.Lock()
	p.done += n
	if p.total > 0 && p.done > p.total { // an estimate that was too low
		p.total = p.done
		if p.bar != nil {
			p.bar.ChangeMax64(p.total)
		}
	}
	p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Add64(n)
	}
}

// stop ends the showing, and clears the bar away. It may be called again.
func (p *progress) stop() {
	p.once.Do(func() {
		close(p.quit)
		if p.bar != nil {
			_ = p.bar.Clear()
			_ = p.bar.Exit()
		}
	})
}

// line says how far it has come.
func (p *progress) line() string {
	p.mu.Lock()
	done, total := p.done, p.total
	p.mu.Unlock()
	took := time.Since(p.began)
	rate := float64(done) / max(took.Seconds(), 0.001)
	text := p.what + ": " + bytesText(done)
	if total > 0 {
		text += fmt.Sprintf(" of %s (%d%%)", bytesText(total), 100*done/total)
	}
	text += fmt.Sprintf(", %s/s", bytesText(int64(rate)))
	if total > done && rate > 0 {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		text += fmt.Sprintf(", about %s left", left.Round(time.Second))
	}
	return text
}

// bytesText writes a number of bytes for people: "16.8 MB".
func bytesText(n int64) string {
	units := []string{"kB", "MB", "GB", "TB", "PB"}
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n) / 1000
	for i, u := range units {
		if v < 999.95 || i == len(units)-1 {
			return fmt.Sprintf("%.1f %s", v, u)
		}
		v /= 1000
	}
	return ""
}
