//go:build linux

package remote

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"belfry/internal/machine"
	"belfry/internal/project"
	"belfry/internal/remote/sshtest"
)

// stub puts a script in the place of a host's belfry.
func stub(t *testing.T, s *sshtest.Server, hash, script string) {
	t.Helper()
	file := filepath.Join(s.Home, "belfry", "music", "bin", hash, "belfry")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// A shell may write a here-document into a file: there would be secrets in it, and
// a /tmp that is full would end every deploy.
func TestARequestIsInNoFileOfTheHost(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{Config: []string{"ForceCommand ulimit -f 0; exec /bin/bash -s"}})
	h := reached(t, s)
	stub(t, s, "0123", "wc -c")
	for _, length := range []int{10, 1 << 20} {
		request := strings.Repeat("x", length)
		var got int
		if err := h.site(t.Context(), "music", "0123", "key", request, &got); err != nil || got != length+len(`""`) {
			t.Errorf("of a request of %d bytes arrived %d: %v", length, got, err)
		}
	}
}

func TestAFileThatChangesWhileItIsSentIsNamed(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	h := reached(t, s)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "songs.txt"), []byte("short"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, size := range map[string]int64{"songs.txt": 100, "gone.txt": 5} {
		r := project.Release{Files: []project.ReleaseFile{{Path: path, Size: size, SHA256: "aa"}}}
		lacks, err := json.Marshal([]string{"aa"})
		if err != nil {
			t.Fatal(err)
		}
		stub(t, s, "0123", `case $2 in
lacks) cat >/dev/null; echo '`+string(lacks)+`' ;;
*) cat >/dev/null; echo 'unexpected EOF' >&2; exit 1 ;;
esac`)
		_, _, err = h.sendFiles(t.Context(), &project.Project{Name: "music", Dir: dir}, r, "0123", nil)
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "unexpected EOF") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestWhatTheHostSaysOfWhatItDoesNotTakeIsKept(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	h := reached(t, s)
	_, err := h.send(t.Context(), "echo the disk is full >&2; exit 1", nil, func(w io.Writer) error {
		for { // more than any window
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
		}
	})
	if err == nil || err.Error() != "the disk is full" {
		t.Errorf("it says %v", err)
	}
}

// slowly stands before a host, and lets through 2,000 bytes to it every 50 ms. What it
// has not let through yet waits in it, as in a router.
func slowly(t *testing.T, s *sshtest.Server) (port string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); work.Wait() })
	work.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		host, err := net.Dial("tcp", net.JoinHostPort(s.Host, s.Port))
		if err != nil {
			t.Error(err)
			return
		}
		work.Go(func() { _, _ = io.Copy(conn, host); _ = conn.Close() })
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for range ticker.C {
			if _, err := io.CopyN(host, conn, 2000); err != nil {
				break
			}
		}
		_, _ = conn.Close(), host.Close()
	})
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port
}

func TestASlowLinkIsNotTakenForOneThatIsCut(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	p := newPerson(t, s)
	p.o.AcceptNew, p.o.Alive = true, 750*time.Millisecond
	p.o.Address = s.User + "@" + net.JoinHostPort("127.0.0.1", slowly(t, s))
	h := p.connects(t)
	signs, err := h.begin(t.Context(), `while IFS= read -r line; do echo "$line"; done`, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = signs.close() })
	sent := make(chan error, 1)
	go func() {
		out, err := h.send(t.Context(), "wc -c", nil, func(w io.Writer) error { _, err := w.Write(make([]byte, 240_000)); return err })
		if err == nil && strings.TrimSpace(out) != "240000" {
			err = fmt.Errorf("%s bytes arrived", out)
		}
		sent <- err
	}()
	answers := bufio.NewReader(signs.out)
	for {
		began := time.Now()
		if _, err := io.WriteString(signs.in, "here\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := answers.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("meanwhile a sign of life took %s", took)
		}
		select {
		case err := <-sent:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

func TestABelfryThatTheHostHasLostIsPutThereAgain(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	h := reached(t, s)
	file := filepath.Join(t.TempDir(), "belfry")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := Binary{Path: file, Hash: "0123"}
	var err error
	if b.Sum, b.Size, err = project.HashFile(file); err != nil {
		t.Fatal(err)
	}
	send := func() error {
		return h.sendBinary(t.Context(), "music", Facts{Hash: "sha256sum", Gzip: true}, b, nil)
	}
	there := filepath.Join(s.Home, "belfry", "music", "bin", b.Hash)
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(there, "belfry")); err != nil { // as a removal that was killed
		t.Fatal(err)
	}
	for range 2 {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(there), "*", "*")); err != nil || len(left) != 1 || left[0] != filepath.Join(there, "belfry") {
		t.Errorf("there is %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(there), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind is %v, %v", left, err)
	}

	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "noexec,mode=777", "tmpfs", s.Home).CombinedOutput(); err != nil {
		machine.Lacks(t, "the right to mount a tmpfs: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", s.Home).Run() }) // the folder goes with the test
	if err := send(); err == nil || !strings.Contains(err.Error(), "(noexec)") {
		t.Errorf("where nothing may be executed: %v", err)
	}
}
