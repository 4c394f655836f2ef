package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"
)

// SSH is how to log in. Its zero value is what ssh itself does, by
// ~/.ssh/config and ssh's defaults.
type SSH struct {
	// KeyFile is the private key, the only one that is offered. It may be
	// protected by a passphrase if the agent holds it. Empty: the agent's keys,
	// then the IdentityFiles.
	KeyFile string

	// KnownHosts is the file with the host keys that are trusted, the only one.
	KnownHosts string

	// Silence is how long the server may say nothing while we wait for it, and
	// take nothing while we send. 0: 10 seconds.
	Silence time.Duration

	// Sessions is the most SFTP sessions that a store may have at once; one more is
	// opened when all are busy. 0: 1. OpenSSH allows 10 on a login (MaxSessions).
	Sessions int

	// Connections is over how many logins they may be spread. 0: 1. A server that
	// refuses one more is not asked again until the connection has broken.
	Connections int

	// Redial makes a store try anew, with each operation, to make a connection
	// that could not be made. Without it the first failure is all operations'.
	Redial bool

	// Renew is how old a store's connection may become before a new one takes its
	// place, in the background, as soon as it stands. An old login may see what
	// a new one does not: with a ChrootDirectory, a disk that another has been
	// mounted over. 0: it lasts as long as the store.
	Renew time.Duration

	// AppendOnly: the account may add and not change or remove, and shall not
	// be able to even where the server would let it. A store makes its files
	// read-only from the first, as nothing can be changed about them later, and
	// leaves what only a removal would tidy up to an account that may remove:
	// temporary names stay, Sweep removes nothing, Move is refused.
	AppendOnly bool
}

func (o SSH) silence() time.Duration {
	if o.Silence <= 0 {
		return 10 * time.Second
	}
	return o.Silence
}

func (o SSH) loginLimit() time.Duration { return max(2*o.silence(), 5*time.Second) }

// DialSSH connects to u's host and logs in, without ever asking anything.
//
// On success both answers are usable and the Conn has no read deadline any
// more: whoever waits for an answer watches the time, and closes the client,
// which closes the Conn, or the other way round. The Conn's writes stay bounded
// by o.Silence.
//
// On error everything is closed. The error is ErrUnreachable, ErrLogin,
// ErrHostKey or ErrConfig, in words for the person who has to mend it, often
// with a Hint. Each step is bounded by o.Silence, the whole by twice that (at
// least 5 seconds), for a server that drips, and by ctx.
func DialSSH(ctx context.Context, u URL, o SSH) (*ssh.Client, *Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.loginLimit(), errSlowLogin)
	defer cancel()
	t, err := resolve(ctx, u, o)
	if err != nil {
		return nil, nil, err
	}
	hosts, err := readKnownHosts(t)
	if err != nil {
		return nil, nil, err
	}
	keys, err := readKeys(ctx, t, o)
	if err != nil {
		return nil, nil, err
	}
	defer keys.close()
	conn, err := dialConn(ctx, t.host, t.port, o.silence())
	if err != nil {
		err := netError(ctx, t.addr(), stepConnect, o.silence(), err)
		if errors.Is(err, syscall.ECONNRESET) {
			err = WithHint(err, turnedAway)
		}
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	client, err := login(conn, t, hosts, keys)
	if !stop() {
		if client != nil {
			client.Close()
		}
		conn.Close()
		step, _, _ := conn.progress()
		return nil, nil, netError(ctx, t.addr(), step, o.silence(), ctx.Err())
	}
	if err != nil {
		conn.Close()
		return nil, nil, explain(ctx, err, conn, t, keys)
	}
	if err := conn.loggedIn(); err != nil {
		client.Close()
		return nil, nil, netError(ctx, t.addr(), stepLogin, o.silence(), err)
	}
	return client, conn, nil
}

// errSlowLogin ends a login that goes on and on.
var errSlowLogin = errors.New("the login takes too long")

// login does the SSH handshake on conn.
func login(conn *Conn, t target, hosts *knownHosts, keys *keyring) (*ssh.Client, error) {
	c, channels, requests, err := ssh.NewClientConn(conn, hosts.addr, &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: keyExchanges(),
			Ciphers:      ciphers(fastAES()),
			MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512},
		},
		User:              t.user,
		HostKeyAlgorithms: hosts.algorithms(),
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			if err := hosts.check(name, remote, key); err != nil {
				return err
			}
			conn.at(stepLogin)
			return nil
		},
		Auth:         []ssh.AuthMethod{ssh.PublicKeysCallback(keys.signers)},
		AuthCallback: keys.watch,
	})
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// keyExchanges are OpenSSH's, without SHA-1; the first two cost least.
func keyExchanges() []string {
	return []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519,
		ssh.KeyExchangeECDHP256, ssh.KeyExchangeECDHP384, ssh.KeyExchangeECDHP521,
		ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDH16SHA512, ssh.KeyExchangeDHGEXSHA256}
}

// ciphers puts the one first that this processor does fastest.
func ciphers(aes bool) []string {
	all := []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305,
		ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR}
	if !aes {
		all[0], all[1], all[2] = all[2], all[0], all[1]
	}
	return all
}

// fastAES reports whether the processor has instructions for AES-GCM.
func fastAES() bool {
	switch runtime.GOARCH {
	case "amd64", "386":
		return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ
	case "arm64":
		return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	case "s390x":
		return cpu.S390X.HasAESGCM
	case "ppc64le":
		return true
	}
	return false
}

// turnedAway is the hint for a connection that ends before the server has said
// its version.
const turnedAway = "sshd does this when too many logins are under way at once " +
	"(MaxStartups in its sshd_config), or when a firewall, PerSourcePenalties or hosts.deny keeps this machine out: see its log"

// explain puts the failure of a login into words and a class.
func explain(ctx context.Context, err error, conn *Conn, t target, keys *keyring) error {
	var untrusted *hostKeyError
	if errors.As(err, &untrusted) {
		return untrusted.err
	}
	step, first, readErr := conn.progress()
	if errors.Is(readErr, errTalksOn) {
		return fmt.Errorf("%w: %s: %w (at: %s)", ErrUnreachable, t.addr(), errTalksOn, step)
	}
	cause := readErr
	if cause == nil {
		cause = err // a write can be the first to meet a reset
	}
	ended := errors.Is(cause, io.EOF) || errors.Is(cause, syscall.ECONNRESET) || errors.Is(cause, syscall.EPIPE)
	if step == stepVersion && first != "" {
		line, _, _ := strings.Cut(oneLine(first), ";")
		if err := fmt.Errorf("%w: %s: what answers there is not an SSH server: it says %q", ErrUnreachable, t.addr(), line); !strings.Contains(line, "MaxStartups") {
			return err
		}
	}
	if step == stepVersion && ended {
		return WithHint(netError(ctx, t.addr(), step, conn.silence, cause),
			turnedAway)
	}
	var none *ssh.AlgorithmNegotiationError
	if errors.As(err, &none) {
		return fmt.Errorf("%w: %s: no common algorithm for %s: the server offers only %s", ErrUnreachable, t.addr(),
			none.What, strings.Join(none.RequestedAlgorithms, ", "))
	}
	// A read error behind a complete answer, such as the server's goodbye, is not the cause.
	said := strings.Contains(err.Error(), "ssh: disconnect") || strings.Contains(err.Error(), "unable to authenticate")
	if readErr != nil && !said {
		return netError(ctx, t.addr(), step, conn.silence, readErr)
	}
	if step == stepLogin {
		return keys.refused(err, t)
	}
	return netError(ctx, t.addr(), step, conn.silence, err)
}
