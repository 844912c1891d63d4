package socket

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocketIsReachedHoweverLongItsPathIs(t *testing.T) {
	for _, length := range []int{1, 60, 86, 87, 103, 107, 200} {
		root, err := os.MkdirTemp("/tmp", "s") //nolint:usetesting // its own is too long a path for this
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(root) })
		dir := filepath.Join(root, strings.Repeat("d", max(1, length-len(root)-1)))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		const name = "sixteen-bytes-16"
		var listener net.Listener
		if err := In(dir, func(short string) (err error) {
			listener, err = net.Listen("unix", short+"/"+name)
			return err
		}); err != nil {
			t.Fatalf("listen in a path of %d bytes: %v", len(dir), err)
		}
		listener.(*net.UnixListener).SetUnlinkOnClose(false)
		t.Cleanup(func() { _ = listener.Close() })
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Type() != fs.ModeSocket {
			t.Errorf("the socket in a path of %d bytes: %v, %v", len(dir), info, err)
		}
		if err := In(dir, func(short string) error {
			conn, err := net.Dial("unix", short+"/"+name)
			if err == nil {
				err = conn.Close()
			}
			return err
		}); err != nil {
			t.Errorf("dial in a path of %d bytes: %v", len(dir), err)
		}
	}
}
