package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"belfry/api"
)

func TestTheLogHasTheEndsOfCommandsThatOutliveADaemon(t *testing.T) {
	t.Parallel()
	o := systemOptions(t)
	in := func(name string) string { return filepath.Join(o.System.Root, name) }
	for _, folder := range []string{"dev", "etc/default"} {
		if err := os.Mkdir(in(folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	inPlace(t, in("etc/default/cron"), "EXTRA_OPTS=\"-L 15\"\n")
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: in("dev/log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	logged := newLines()
	go func() {
		line := make([]byte, 64<<10)
		for {
			n, err := log.Read(line)
			if err != nil {
				return
			}
			fmt.Fprintf(logged, "%s\n", line[:n])
		}
	}()
	t.Cleanup(func() { _ = log.Close() })
	tab := ""
	for _, name := range []string{"away", "after"} {
		if err := syscall.Mkfifo(in(name), 0o600); err != nil {
			t.Fatal(err)
		}
		tab += fmt.Sprintf("#belfry: name=%s\n0 1 * * * root read code <%s; exit $code; : %[1]s\n", name, in(name))
	}
	inPlace(t, in("etc/cron.d/ops"), tab)
	_, client, stop := serveDaemon(t, o)
	runs := map[string]string{}
	for _, name := range []string{"away", "after"} {
		started, err := client.Start(t.Context(), api.RunRequest{Job: name})
		if err != nil {
			t.Fatal(err)
		}
		runs[name] = started[0].ID
		logged.until(t, "; : "+name+")")
	}
	stop()
	inPlace(t, in("away"), "0\n")
	deadline := time.Now().Add(30 * time.Second)
	for exit := filepath.Join(attemptDir(o.Data, runs["away"], 1), "exit"); ; {
		if _, err := os.Stat(exit); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the first command does not end")
		}
	}
	serveDaemon(t, o)
	said := logged.until(t, " (root) END ([")
	inPlace(t, in("after"), "3\n")
	said = append(said, logged.until(t, " failed with exit status 3)")...)
	said = append(said, logged.until(t, " (root) END ([")...)
	for _, line := range said {
		if strings.Contains(line, " CMD (") {
			t.Errorf("what the daemon before has told is told again: %s", line)
		}
	}
}
