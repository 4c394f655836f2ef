// Package bench measures walship beside the commands that people use instead of
// it, in one run on one sshd: see docs/benchmarks.md. Its tests have the build
// tag "bench" and are run by "make bench", never by "make test".
package bench
