package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// supervisor tells systemd how the daemon is, in the words of sd_notify(3): a
// datagram of lines to a socket that systemd names. It is all of the protocol
// that we use, so no module is needed for it. Without a socket nobody listens.
type supervisor struct {
	socket string
	log    *slog.Logger
}

func (s *supervisor) tell(lines ...string) {
	if s.socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(strings.Join(lines, "\n")))
		_ = conn.Close() // a datagram is sent or not
	}
	if err != nil {
		s.log.Warn("tell systemd", "error", err)
	}
}

// status is a line for people, shown by systemctl status.
func status(format string, args ...any) string { return "STATUS=" + fmt.Sprintf(format, args...) }

// monotonic is the line by which systemd tells one reload from another.
func monotonic(running time.Duration) string {
	return fmt.Sprintf("MONOTONIC_USEC=%d", running.Microseconds())
}

// watchdog assures systemd that the daemon is alive for as long as every loop
// goes round: one that hangs is killed, and the jobs are found again.
func (d *Daemon) watchdog(ctx context.Context) error {
	ticker := time.NewTicker(d.o.Watchdog / 3)
	defer ticker.Stop()
	for {
		if d.beats.well() {
			d.tell("WATCHDOG=1")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
