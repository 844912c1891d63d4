//go:build linux

package remote

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"belfry/internal/remote/sshtest"
)

func TestAnInstallationIsFinishedThoughTheConnectionIsCut(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for _, pipe := range []string{"began", "go", "ended"} {
		if err := syscall.Mkfifo(filepath.Join(bin, pipe), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(bin, pipe), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	manager := "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nexec 3>ended\necho >began\nread -r _ <go\necho Unpacking\necho Setting up\necho installed >&3\n"
	if err := os.WriteFile(filepath.Join(bin, "dnf"), []byte(manager), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	s := sshtest.Start(t, sshtest.Options{Path: bin})
	person := newPerson(t, s)
	person.o.AcceptNew = true
	p := planFor(t, Facts{Root: "yes", Packages: "dnf"}, "jobs: {a: {command: python3 a.py}}")
	p.host = person.connects(t)
	done := make(chan error, 1)
	go func() {
		_, err := p.Steps[0].do(t.Context(), nil)
		done <- err
	}()
	ended, err := os.Open(filepath.Join(bin, "ended"))
	if err != nil {
		t.Fatal(err)
	}
	defer ended.Close() //nolint:errcheck // it is only read
	if _, err := os.ReadFile(filepath.Join(bin, "began")); err != nil {
		t.Fatal(err)
	}
	s.Cut()
	if err := <-done; err == nil {
		t.Error("it was not cut")
	}
	for tick := time.Tick(5 * time.Millisecond); s.Connections() > 0; { // its sshd has not ended yet
		<-tick
	}
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 100)
	if n, err := ended.Read(said); string(said[:n]) != "installed\n" {
		t.Errorf("the package manager ended with %q, %v", said[:n], err)
	}
}
