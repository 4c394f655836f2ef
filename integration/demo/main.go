// Command demo tells walship's main job as a story, with real servers on this
// machine: a primary and a standby are set up, the archive host is away for a
// while, the standby dies and comes back, the primary dies, and in the end all
// is lost and restored to the moment before a mistake. Run it with "make demo".
//
// All that it starts and makes is gone when it ends, also after Ctrl-C and after
// a failure, which it reports with exit code 1.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

// patience is how long the story may take to notice that it has been
// interrupted, before it is cleaned up behind its back.
const patience = 15 * time.Second

func run() int {
	layout := flag.String("layout", "host", "where the archive lies: on a host of its own (host), or in a folder on the primary (primary)")
	flag.Parse()
	if *layout != "host" && *layout != "primary" || flag.NArg() != 0 {
		fmt.Fprintf(os.Stderr, "demo: the layout is host or primary, not %q\n", *layout)
		return 2
	}

	s := newStage(os.Stdout)
	interrupts := make(chan os.Signal, 8)
	// A reader that has gone away, as in "make demo | head", counts as well.
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)

	ended := s.play(func(s *stage) { tell(s, *layout == "primary") })
	select {
	case <-ended:
	case <-interrupts:
		s.interrupt()
		s.say("\nInterrupted: stopping the servers and removing their folders.")
		select {
		case <-ended:
		case <-time.After(patience):
		}
	}
	s.clear()
	switch {
	case s.interrupted():
		return 130
	case s.Failed():
		return 1
	}
	return 0
}
