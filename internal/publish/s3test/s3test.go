// Package s3test answers: where is an S3 service to test against? It runs a real
// one, versitygw (pinned in ../versitygw/go.mod), on a folder of the test, and
// s3cmd, a client that is not ours. Only tests import it.
package s3test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a running service with one empty bucket. It ends with its test.
type Server struct {
	Endpoint  string // "http://127.0.0.1:40123"
	AccessKey string
	SecretKey string
	Region    string
	Bucket    string
	Root      string // the folder that holds the bucket's objects, a file each
}

// Env is what a job needs in its environment to reach the server.
func (s *Server) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL_S3=" + s.Endpoint,
		"AWS_ACCESS_KEY_ID=" + s.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + s.SecretKey,
		"AWS_REGION=" + s.Region,
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// Start starts a server, with more of its own flags.
func Start(t testing.TB, flags ...string) *Server {
	t.Helper()
	return StartAt(t, "127.0.0.1", flags...)
}

// StartAt starts a server at an address of this machine that others can reach.
func StartAt(t testing.TB, address string, flags ...string) *Server {
	t.Helper()
	binary, err := gateway()
	if err != nil {
		t.Fatalf("build versitygw: %v", err)
	}
	s := &Server{AccessKey: "belfry", SecretKey: "tower-secret", Region: "us-east-1", Bucket: "lake"}
	s.Root = t.TempDir()
	if err := os.Mkdir(filepath.Join(s.Root, s.Bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region, "--port", address + ":0", "--quiet", "--keep-alive"}
	cmd := exec.Command(binary, slices.Concat(args, flags, []string{"posix", s.Root})...)
	var said bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{}, &said, &said
	// The server goes when this process does, even when that is killed. The kernel
	// goes by the thread that started it, which must live as long.
	cmd.SysProcAttr = diesWithUs
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start versitygw: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	// It neither says on which port it listens nor when: the kernel knows.
	tick, late := time.NewTicker(5*time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if port := listening(cmd.Process.Pid); port != 0 {
				s.Endpoint = fmt.Sprintf("http://%s:%d", address, port)
				return s
			}
		case <-ended:
			t.Fatalf("versitygw ended: %s", said.String())
		case <-late:
			t.Fatalf("versitygw does not listen")
		}
	}
}

// AddUser makes a user of the server, who may do nothing in the bucket, and
// returns the environment of a job of that user.
func (s *Server) AddUser(t testing.TB, name string) []string {
	t.Helper()
	binary, err := gateway()
	if err != nil {
		t.Fatal(err)
	}
	secret := name + "-secret"
	out, err := exec.Command(binary, "admin", "--access", s.AccessKey, "--secret", s.SecretKey, "--region", s.Region, "--endpoint-url", s.Endpoint,
		"create-user", "--access", name, "--secret", secret, "--role", "user").CombinedOutput()
	if err != nil {
		t.Fatalf("make a user: %v\n%s", err, out)
	}
	return []string{"AWS_ACCESS_KEY_ID=" + name, "AWS_SECRET_ACCESS_KEY=" + secret}
}

// S3cmd runs s3cmd on the server and returns what it printed.
func (s *Server) S3cmd(t testing.TB, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("s3cmd")
	if err != nil {
		t.Fatal("s3cmd is missing, a client that is not ours: apt-get install s3cmd, as for `make test`")
	}
	host := strings.TrimPrefix(s.Endpoint, "http://")
	cmd := exec.Command(path, append([]string{
		"-c", os.DevNull, "--no-ssl", "--access_key=" + s.AccessKey, "--secret_key=" + s.SecretKey,
		"--region=" + s.Region, "--host=" + host, "--host-bucket=" + host, "--encoding=UTF-8", "--no-progress",
	}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + t.TempDir()}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("s3cmd %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// List returns the keys of all objects in the bucket, one a line, sorted.
func (s *Server) List(t testing.TB) []string {
	t.Helper()
	var keys []string
	prefix := "s3://" + s.Bucket + "/"
	for line := range strings.Lines(s.S3cmd(t, "ls", "-r", prefix)) {
		if _, key, ok := strings.Cut(strings.TrimSuffix(line, "\n"), prefix); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// Fetch copies everything below prefix to a new folder and returns that.
func (s *Server) Fetch(t testing.TB, prefix string) string {
	t.Helper()
	dir := t.TempDir()
	s.S3cmd(t, "get", "-r", "s3://"+s.Bucket+"/"+prefix, dir+"/")
	return dir
}

// gateway is the server's binary, built once for its versions and kept in the
// user's cache.
var gateway = sync.OnceValues(func() (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	module := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "internal", "publish", "versitygw")
	h := sha256.New()
	h.Write([]byte(runtime.Version()))
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		h.Write(data)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "belfry-test")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	// One builds, the tests of the other packages wait.
	lock, err := os.OpenFile(filepath.Join(cache, "versitygw.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	binary := filepath.Join(cache, fmt.Sprintf("versitygw-%x", h.Sum(nil)[:8]))
	if _, err := os.Stat(binary); !errors.Is(err, os.ErrNotExist) {
		return binary, err
	}
	build := exec.Command("go", "build", "-C", module, "-p", "2", "-o", binary+".new", "github.com/versity/versitygw/cmd/versitygw")
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, os.Rename(binary+".new", binary)
})
