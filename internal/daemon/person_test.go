package daemon

import (
	"context"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"belfry/internal/run"
	"belfry/internal/system"
)

func TestThePersonOfARequestIsWhoTheKernelSays(t *testing.T) {
	t.Parallel()
	d := &Daemon{users: system.At("/", "").Users()}
	us, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for network, want := range map[string]run.Person{
		"unix": {UID: os.Getuid(), Name: us.Username},
		"tcp":  {UID: -1, Name: "unknown"},
	} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "sock")
		}
		listener, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial(network, listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := d.person(withPeer(context.Background(), conn)); got != want {
			t.Errorf("%s: it is %+v, want %+v", network, got, want)
		}
		for _, c := range []interface{ Close() error }{client, conn, listener} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
