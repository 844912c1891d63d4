//go:build host

package cli

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// podmans are the settings with which podman works on the host: it is one of namespaces,
// whose cgroups and limits it cannot change, and whose root is an overlay already.
const podmans = `mkdir -p /etc/containers
cat > /etc/containers/containers.conf <<'END'
[containers]
cgroups = "disabled"
netns = "none"
default_sysctls = []
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
END
cat > /etc/containers/storage.conf <<'END'
[storage]
driver = "vfs"
runroot = "/run/containers"
graphroot = "/var/lib/containers/storage"
END
`

// copies puts a folder of ours on the host.
func (d *debian) copies(from, to string, but ...string) {
	d.t.Helper()
	args := []string{"-C", from, "-c"}
	for _, name := range but {
		args = append(args, "--exclude="+name)
	}
	pack, unpack := exec.Command("tar", append(args, ".")...), d.command("mkdir -p "+to+" && tar --no-same-owner -C "+to+" -x")
	var err error
	if unpack.Stdin, err = pack.StdoutPipe(); err != nil {
		d.t.Fatal(err)
	}
	if err := pack.Start(); err != nil {
		d.t.Fatal(err)
	}
	out, err := unpack.CombinedOutput()
	if packed := pack.Wait(); err != nil || packed != nil {
		d.t.Fatalf("copy %s to the host: %v, %v\n%s", from, packed, err, out)
	}
}

// modules lets the host's go have modules: those that are here already from here.
func (d *namespaced) modules() (proxy string) {
	d.t.Helper()
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY").Output()
	cache, list, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	upstream, parsed := url.Parse(regexp.MustCompile("[,|]").Split(list, 2)[0])
	listener, listens := net.Listen("tcp", d.cable.Near+":0")
	if err != nil || parsed != nil || listens != nil {
		d.t.Fatal(err, parsed, listens)
	}
	cache = filepath.Join(cache, "cache/download")
	here := http.FileServer(http.Dir(cache))
	there := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(upstream) }}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := os.Stat(filepath.Join(cache, r.URL.Path)); err == nil {
			here.ServeHTTP(w, r)
			return
		}
		there.ServeHTTP(w, r)
	}))
	server.Listener = listener
	server.Start()
	d.t.Cleanup(server.Close)
	return server.URL
}

// The images that the Dockerfiles begin with cannot be had everywhere. For Go's
// there is the host itself with our Go, for Python's one of a shell and its tools.
func TestTheImageOfTheDockerfileRunsAsTheDocsSay(t *testing.T) {
	t.Parallel()
	d := newDebian(t, systemd)
	d.packages()
	d.do(podmans + "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get install -y -qq --no-install-recommends podman buildah crun catatonit busybox-static ca-certificates")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	d.copies(strings.TrimSpace(string(goroot)), "/usr/local/go")
	d.copies(root, "/srv/belfry", "./.git")
	d.do(`tar --one-file-system --exclude=./srv --exclude=./var/lib/containers --exclude=./var/cache -C / -c . |
	podman import -q --change ENV=PATH=/usr/local/go/bin:/usr/bin:/bin --change ENV=GOPATH=/go --change ENV=GOSUMDB=off --change ENV=GOPROXY=` + d.modules() + ` - docker.io/library/golang:1.26`)
	d.do("podman build -q --isolation chroot --layers=false --build-arg VERSION=tested -t belfry /srv/belfry")
	d.is("podman run --rm belfry --version", "belfry tested")
	d.is("podman run --rm belfry | grep -c '^  serve '", "1")

	page, err := os.ReadFile(filepath.Join(root, "docs/container.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, dockerfile, _ := strings.Cut(string(page), "```dockerfile\n")
	dockerfile, _, _ = strings.Cut(dockerfile, "```")
	d.do(`mkdir /srv/python /srv/jobs && cp /bin/busybox /srv/python
cat > /srv/python/Dockerfile <<'END'
FROM scratch
COPY busybox /bin/
RUN ["/bin/busybox", "--install", "/bin"]
END
podman build -q --isolation chroot -t docker.io/library/python:3.13-slim /srv/python
cat > /srv/jobs/Dockerfile <<'END'
` + dockerfile + `END
cat > /srv/jobs/my-jobs <<'END'
#belfry: name=hello
@reboot echo "$GREETING from $(id -u), at home in $HOME"; { sleep 3; echo left behind; } &
#belfry: name=long
@reboot exec sleep 1000
END
podman build -q --isolation chroot -t my-jobs /srv/jobs`)

	// A container's user is given its standard input, and that /dev/null is the machine's.
	defer func() {
		if err := os.Chown(os.DevNull, 0, 0); err != nil {
			t.Error(err)
		}
	}()
	// As in docs/container.md, with podman's name.
	const readOnly = "podman run --read-only --tmpfs /tmp --user 12345 -v jobs:/data -e BELFRY_DATA=/data "
	if !strings.Contains(string(page), strings.Replace(readOnly, "podman", "docker", 1)+"my-jobs") {
		t.Errorf("docs/container.md does not say %q", readOnly)
	}
	d.do(readOnly + `-d --name one -e GREETING=hello --health-cmd 'wget -q -O- http://127.0.0.1:8080/api/v1/health' my-jobs --listen :8080`)
	const left = "hello: left behind"
	says := func(name, what string) {
		t.Helper()
		d.until(name+" says "+what, time.Minute, func() (bool, string) {
			said := d.said("podman logs " + name + " 2>&1")
			return strings.Contains(said, what), said
		})
	}
	says("one", left)
	d.is("podman logs one 2>/dev/null", "hello: hello from 12345, at home in /\n"+left)
	if said := d.said("podman logs one 2>&1 >/dev/null"); strings.Contains(said, "level=ERROR") || strings.Contains(said, "level=WARN") {
		t.Errorf("there is something wrong:\n%s", said)
	}
	inside := func(script, want string) {
		t.Helper()
		d.is("podman exec one sh -c '"+script+"' 2>&1", want)
	}
	inside("cat /proc/1/comm", "belfry")
	inside("touch /x", "touch: /x: Read-only file system")
	inside("belfry runs --json | grep -c '\\''\"job\"'\\''", "2")
	inside("sleep 0 & :", "") // whose parent is gone
	d.until("nobody is left dead", time.Minute, func() (bool, string) {
		said := d.said("podman exec one sh -c 'grep -l \"^State:.Z\" /proc/[0-9]*/status'")
		return said == "", said
	})
	d.is("podman healthcheck run one; echo $?", "0")
	d.do("podman kill -s HUP one")
	says("one", "read the jobs anew")
	d.do("podman stop one")
	d.is("podman inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' one", "0 false")
	if said := d.said(readOnly + "--rm --entrypoint belfry my-jobs show long"); !strings.Contains(said, "ended with the daemon, which was told to stop") {
		t.Errorf("the next container finds of the job that was ended:\n%s", said)
	}

	d.do("podman run -d --name two my-jobs --wait")
	for _, what := range []string{"msg=started", "waiting for 1 running job"} {
		says("two", what)
		d.do("podman kill -s TERM two")
	}
	d.is("podman wait two", fmt.Sprint(128+15))
	d.is("podman run --rm my-jobs --crontab /nothing >/dev/null 2>&1; echo $?", fmt.Sprint(exitNotFound))

	d.do("podman run -d --init --name three -e GREETING=hi my-jobs --grace 8s --job-output plain --pass-env")
	says("three", "hello: hi from 0")
	d.do("podman stop three")
	d.is("podman wait three", "0")
}
