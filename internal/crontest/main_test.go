package crontest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
	type peerKey struct{}
	srv := http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			uid, _ := r.Context().Value(peerKey{}).(uint32)
			caller, err := users.LookupID(uid)
			if err != nil {
				panic(err)
			}
			server.New(server.Options{
				Access: server.User, Log: slog.New(slog.DiscardHandler),
				Spool: system.Tabs{Places: places, Users: users, Caller: caller},
			}).ServeHTTP(w, r)
		}),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			raw, err := conn.(*net.UnixConn).SyscallConn()
			if err != nil {
				panic(err)
			}
			var cred *unix.Ucred
			if err := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
				panic(err)
			}
			return context.WithValue(ctx, peerKey{}, cred.Uid)
		},
		ReadHeaderTimeout: time.Minute,
	}
	return srv.Serve(listener)
}
