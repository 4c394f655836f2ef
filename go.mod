module walship

go 1.26.0

require (
	filippo.io/age v1.3.2 // encrypts, in a format that other tools open
	github.com/BurntSushi/toml v1.6.0 // reads walship.toml and tells the line of a wrong key
	github.com/creack/pty v1.1.24 // tests only: a terminal that is asked on
	github.com/jackc/pgx/v5 v5.13.0 // speaks to PostgreSQL, the replication protocol included
	github.com/klauspost/compress v1.20.4 // zstd and gzip, on several cores
	github.com/pierrec/lz4/v4 v4.1.33 // reads what other tools have stored
	github.com/pkg/sftp v1.13.12 // tests only: a server that is not OpenSSH, and a benchmark
	github.com/schollz/progressbar/v3 v3.19.1 // how far a call of hours has come
	github.com/skeema/knownhosts v1.3.3 // known_hosts, with the right order of key algorithms
	github.com/urfave/cli/v2 v2.27.7 // commands and flags
	golang.org/x/crypto v0.59.0 // SSH
	golang.org/x/sync v0.25.0 // the bound on what a push holds in memory
	golang.org/x/sys v0.50.0 // TCP_QUICKACK, renameat2
	golang.org/x/term v0.48.0 // is this a terminal?
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	filippo.io/hpke v0.4.0 // indirect
	github.com/cpuguy83/go-md2man/v2 v2.0.7 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/kr/fs v0.1.0 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/xrash/smetrics v0.0.0-20250705151800-55b8f293f342 // indirect
	golang.org/x/text v0.44.0 // indirect
)
