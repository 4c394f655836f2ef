// Command put stores its standard input as a file of an SFTP store, for tests
// that build it with fault points:
//
//	put URL KEY KNOWN_HOSTS NAME < CONTENT
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"walship/transport"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	u, err := transport.ParseURL(args[0])
	if err != nil {
		return err
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s := transport.OpenSFTP(ctx, u, transport.SSH{KeyFile: args[1], KnownHosts: args[2]}, transport.Full)
	defer s.Close()
	return s.Put(ctx, args[3], transport.Source{Write: func(w io.WriterAt) error {
		_, err := w.WriteAt(data, 0)
		return err
	}})
}
