package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"walship/internal/pgconf"
	"walship/internal/pgrun"
)

// agentService is the name of the unit that keeps the agent running.
const agentService = "walship-agent.service"

func serviceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "agent-service", Usage: "write a systemd unit that keeps walship agent running, tell how root installs it, and set agent = \"auto\""}
}

// useService makes the configuration one that uses the agent, if its service is
// wanted.
func (s *setup) useService() [][2]string {
	if !s.x.Bool("agent-service") {
		return nil
	}
	return [][2]string{{"agent", "auto"}}
}

// writeService writes the agent's unit, if it is wanted, beside the configuration:
// systemd's own folder is root's.
func (s *setup) writeService() error {
	if !s.x.Bool("agent-service") {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	self, err := pgrun.Self()
	if err != nil {
		return err
	}
	e, err := pgconf.Open(s.own(agentService), 0o644)
	if err != nil {
		return localError(err)
	}
	e.New = []byte(serviceUnit(exe, s.file, self.Name))
	if e.Changes() && !s.dry {
		s.line("wrote", "%s", e.Path)
	}
	return s.write(e)
}

// tellService tells how the unit is installed.
func (s *setup) tellService() {
	if !s.x.Bool("agent-service") || s.dry {
		return
	}
	s.line("agent", "walship uses it when it runs, and does without it when it does not. systemd keeps it running once root has said:")
	s.print("\nsudo install -m 0644 %s /etc/systemd/system/\nsudo systemctl enable --now %s\n", shellWord(s.own(agentService)), agentService)
}

// serviceUnit is a unit that runs the agent of a configuration in the foreground,
// as that user.
func serviceUnit(exe, config, user string) string {
	return fmt.Sprintf(`# Written by walship setup. To have systemd run it, as root:
#   install -m 0644 %[1]s /etc/systemd/system/
#   systemctl enable --now %[1]s

[Unit]
Description=walship agent, which holds the connection to the WAL archive
Wants=network-online.target
After=network-online.target

[Service]
User=%[2]s
ExecStart=%[3]s --config %[4]s agent
Restart=on-failure
RestartSec=5
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
`, agentService, user, quoteUnit(exe), quoteUnit(strings.ReplaceAll(config, "$", "$$")))
}

// quoteUnit makes s one word of a command in a unit, quoted if need be.
func quoteUnit(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if !strings.ContainsAny(s, " \t\"'\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
