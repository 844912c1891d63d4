package crontest

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"belfry/api"
	"belfry/internal/cli"
	"belfry/internal/server"
	"belfry/internal/system"
)

// The test binary is also what stands beside Debian's programs: the crontab
// command, and who does for its callers what they cannot.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "crontab":
		os.Exit(cli.Main(os.Args))
	case "spoold":
		if err := serveSpool(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// serveSpool answers on the system's socket until it is killed.
func serveSpool() error {
	path := filepath.Join(api.SystemSocket, api.SocketName)
	if err := os.Mkdir(api.SystemSocket, 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("unix", path+".new")
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(path+".new", 0o666), os.Rename(path+".new", path)); err != nil {
		return err
	}
	places := system.At("", "")
	users := places.Users()
	srv := http.Server{
		Handler: server.New(server.Options{
			Access: server.Owner, Log: slog.New(slog.DiscardHandler),
			Spool: func(uid uint32) (system.Spool, error) {
				caller, err := users.LookupID(uid)
				return system.Tabs{Places: places, Users: users, Caller: caller}, err
			},
		}),
		ConnContext:       server.WithPeer,
		ReadHeaderTimeout: time.Minute,
	}
	return srv.Serve(listener)
}
