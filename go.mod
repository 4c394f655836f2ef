module walship

go 1.26.0

require (
	github.com/BurntSushi/toml v1.6.0 // reads walship.toml and tells the line of a wrong key
	github.com/creack/pty v1.1.24 // tests only: a terminal that is asked on
	github.com/klauspost/compress v1.20.3 // zstd and gzip, on several cores
	github.com/pierrec/lz4/v4 v4.1.33 // reads what other tools have stored
	github.com/pkg/sftp v1.13.12 // tests only: a server that is not OpenSSH, and a benchmark
	github.com/skeema/knownhosts v1.3.3 // known_hosts, with the right order of key algorithms
	github.com/urfave/cli/v2 v2.27.7 // commands and flags
	golang.org/x/crypto v0.58.0 // SSH
	golang.org/x/sync v0.24.0 // the bound on what a push holds in memory
	golang.org/x/sys v0.49.0 // TCP_QUICKACK, renameat2
	golang.org/x/term v0.47.0 // is this a terminal?
)

require (
	github.com/cpuguy83/go-md2man/v2 v2.0.7 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.12.0 // indirect
	github.com/kr/fs v0.1.0 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/schollz/progressbar/v3 v3.19.1 // indirect
	github.com/xrash/smetrics v0.0.0-20240521201337-686a1a2994c1 // indirect
	golang.org/x/text v0.43.0 // indirect
)
