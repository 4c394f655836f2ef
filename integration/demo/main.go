// Command demo tells walship's main job as a story, with real servers on this
// machine: PostgreSQL archives to an SFTP server, the archive is out of reach
// for a while, the primary is lost, and a new one is recovered from a base
// backup and the archive. Run it with "make demo".
//
// All that it starts and makes is gone when it ends, also after Ctrl-C and after
// a failure, which it reports with exit code 1.
package main

import (
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
	stage := newStage(os.Stdout)
	interrupts := make(chan os.Signal, 8)
	// A reader that has gone away, as in "make demo | head", counts as well.
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)

	ended := stage.play(tell)
	select {
	case <-ended:
	case <-interrupts:
		stage.interrupt()
		stage.say("\nInterrupted: stopping the servers and removing their folders.")
		select {
		case <-ended:
		case <-time.After(patience):
		}
	}
	stage.clear()
	switch {
	case stage.interrupted():
		return 130
	case stage.Failed():
		return 1
	}
	return 0
}
