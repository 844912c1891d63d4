package publish

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"belfry/internal/job"
	"belfry/internal/outbox"
	"belfry/internal/publish/s3test"
)

// network stands before a server, and can be ill.
type network struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
}

func newNetwork(t *testing.T, s *s3test.Server) *network {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "s3", "127.0.0.1:0", strings.TrimPrefix(s.Endpoint, "http://"))
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Stop)
	return &network{t, proxy}
}

func (n *network) env() []string {
	return []string{"AWS_ENDPOINT_URL_S3=http://" + n.proxy.Listen, stallEnv + "=300ms"}
}

// ills are what can be wrong with a network.
var ills = map[string]string{
	"stalls":           `{"name": "ill", "type": "timeout", "attributes": {"timeout": 0}}`,
	"stalls upwards":   `{"name": "ill", "type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}}`,
	"is cut":           `{"name": "ill", "type": "limit_data", "attributes": {"bytes": 700}}`,
	"is cut upwards":   `{"name": "ill", "type": "limit_data", "stream": "upstream", "attributes": {"bytes": 500}}`,
	"resets":           `{"name": "ill", "type": "reset_peer", "attributes": {"timeout": 10}}`,
	"loses the answer": `{"name": "ill", "type": "timeout", "attributes": {"timeout": 20}}`,
	"is slow":          `{"name": "ill", "type": "slicer", "stream": "upstream", "attributes": {"average_size": 100, "delay": 100}}`,
}

func (n *network) fallIll(ill string) {
	n.t.Helper()
	if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(ills[ill])); err != nil {
		n.t.Fatal(err)
	}
}

func (n *network) recover() {
	n.t.Helper()
	n.proxy.Toxics.ResetToxics(n.t.Context())
}

func TestANetworkThatIsIllDelaysAPublish(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	files := map[string]string{"a.csv": strings.Repeat("x", 5000), "b.csv": "y", "large.bin": strings.Repeat("z", 9<<20)}
	for i, ill := range slices.Sorted(maps.Keys(ills)) {
		t.Run(ill, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, files)
			w.env = append(w.env, server.Env()...)
			n := newNetwork(t, server)
			prefix := fmt.Sprintf("n%d/", i)
			to := job.Target{To: "s3://lake/" + prefix}
			w.mustSend(w.order("R1", to), n.env()...)
			w.write(second)
			n.fallIll(ill)
			_, err := w.send(w.order("R2", to), n.env()...)
			if ill == "is slow" {
				if err != nil {
					t.Fatal(err)
				}
			} else {
				wantError(t, err, false, "s3://lake/"+prefix)
				n.recover()
				if _, err := w.again(n.env()...); err != nil {
					t.Fatal(err)
				}
			}
			wantObjects(t, server, prefix, "R2", second)
		})
	}
}

// docsReader is the program that the docs give to readers of a bucket, and a loop
// around it that says what it accepts until it is told to end.
func docsReader(t *testing.T, s *s3test.Server, prefix string) *exec.Cmd {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "publishing.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "import hashlib, json\nimport boto3\n")
	code, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/publishing.md has no reader of a bucket")
	}
	loop := `
import select, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1])
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        files = published(sys.argv[2], sys.argv[3], s3)
    except (RuntimeError, s3.exceptions.NoSuchKey):
        continue
    print(json.dumps({name: data.decode() for name, data in files.items()}), flush=True)
`
	cmd := exec.Command("/usr/bin/python3", "-c", "import hashlib, json\nimport boto3\n"+code+loop, s.Endpoint, s.Bucket, prefix)
	cmd.Env = append(s.Env(), "AWS_DEFAULT_REGION="+s.Region, "HOME="+t.TempDir(), "LANG=C.UTF-8")
	cmd.Stderr = os.Stderr
	return cmd
}

// sets are what the n-th of several publishers puts at one target the i-th time.
func sets(n, i int) map[string]string {
	return map[string]string{
		"a.csv": strings.Repeat(fmt.Sprint(n, i), 1000), "sub/b.json": fmt.Sprint(n, i),
		fmt.Sprintf("only-%d-%d.csv", n, i): "x",
	}
}

func TestPublishersOfOneTargetAtOnceAreNeverMixed(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	const publishers, times = 3, 4
	known := map[string]bool{}
	for n := range publishers {
		for i := range times {
			text, _ := json.Marshal(sets(n, i))
			known[string(text)] = true
		}
	}

	reader := docsReader(t, server, "x/")
	stop, err := reader.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := reader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan int, 1)
	go func() {
		count := 0
		for lines := bufio.NewScanner(stdout); lines.Scan(); count++ {
			var set map[string]string
			if err := json.Unmarshal(lines.Bytes(), &set); err != nil {
				t.Errorf("the reader says %q", lines.Text())
			}
			if text, _ := json.Marshal(set); !known[string(text)] {
				t.Errorf("the reader accepted a set that nobody published: %.200s", text)
			}
		}
		accepted <- count
	}()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	kills := []step{stepNoted, stepUnmarked, stepSomeData, stepData, stepChecked, stepManifest, stepStale, stepSwept, stepMarked}
	names := slices.Sorted(maps.Keys(ills))
	var all sync.WaitGroup
	for n := range publishers {
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		all.Go(func() {
			w := newWorld(t, nil)
			w.env = append(append(w.env, server.Env()...), noClaimEnv+"=1")
			net := newNetwork(t, server)
			for i := range times {
				w.write(sets(n, i))
				order := w.order(fmt.Sprintf("R%d-%d", n, i), job.Target{To: "s3://lake/x/"})
				for try := 0; ; try++ {
					env := net.env()
					net.recover()
					switch {
					case try >= 3: // enough
					case random.IntN(2) == 0:
						env = append(env, fmt.Sprintf("%s=%s:%d", killEnv, kills[random.IntN(len(kills))], 1+random.IntN(2)))
					case random.IntN(2) == 0:
						net.fallIll(names[random.IntN(len(names))])
					}
					_, err := w.send(order, env...)
					if err == nil {
						break
					}
					if outbox.IsFinal(err) || try > 100 {
						t.Errorf("run %s, try %d: %v", order.Run, try, err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	if err := stop.Close(); err != nil {
		t.Fatal(err)
	}
	if n := <-accepted; n == 0 {
		t.Error("the reader never accepted a set")
	}
	if err := reader.Wait(); err != nil {
		t.Errorf("the reader: %v", err)
	}
	w := newWorld(t, second)
	w.env = append(append(w.env, server.Env()...), noClaimEnv+"=1")
	w.mustSend(w.order("R9", job.Target{To: "s3://lake/x/"}))
	wantObjects(t, server, "x/", "R9", second)
}

func TestAppendersAtOnceLoseNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, w *world, to job.Target, show func(string, map[string]string)) {
		to.Mode = job.ModeAppend
		const appenders, times = 3, 3
		want := map[string]string{}
		var all sync.WaitGroup
		for n := range appenders {
			own := newWorld(t, nil)
			own.env = append(own.env, w.env...)
			for i := range times {
				want[fmt.Sprintf("%d-%d.csv", n, i)] = fmt.Sprint(n, i)
			}
			all.Go(func() {
				for i := range times {
					own.write(map[string]string{fmt.Sprintf("%d-%d.csv", n, i): fmt.Sprint(n, i)})
					for try := 0; ; try++ {
						_, err := own.send(own.order("R1", to))
						if err == nil {
							break
						}
						if outbox.IsFinal(err) || try > 100 {
							t.Errorf("appender %d, try %d: %v", n, try, err)
							return
						}
					}
				}
			})
		}
		all.Wait()
		show("R1", want)
	})
}

func TestAPublishThatIsOvertakenDoesNotComplete(t *testing.T) {
	t.Parallel()
	to := job.Target{To: "s3://lake/x/"}
	for _, c := range []struct {
		run   string
		files map[string]string
	}{
		{"R2", second},
		{"R1", first}, // as when the machine was cloned
	} {
		t.Run("by "+c.run, func(t *testing.T) {
			t.Parallel()
			w, s := newLake(t, first)
			var once sync.Once
			overtake := fault(t, s, func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/a.csv") {
					once.Do(func() { // another one begins while the data of the first is on its way, and gets no further
						other := newWorld(t, c.files)
						other.env = append(other.env, s.Env()...)
						_, err := other.send(other.order(c.run, to), killEnv+"=noted:1")
						wantError(t, err, false, "killed")
					})
				}
				return false
			})
			_, err := w.send(w.order("R1", to), overtake)
			wantError(t, err, false, "somebody else has begun to publish there")
			if keys := s.List(t); slices.Contains(keys, "x/"+successName) || slices.Contains(keys, "x/"+manifestName) {
				t.Errorf("it completed: %q", keys)
			}
			if _, err := w.again(); err != nil {
				t.Fatal(err)
			}
			wantObjects(t, s, "x/", "R1", first)
		})
	}
}

func TestNobodyBeginsWhileAnotherDeletes(t *testing.T) {
	t.Parallel()
	to := job.Target{To: "s3://lake/x/", Mode: job.ModeAppend}
	w, s := newLake(t, first)
	other := newWorld(t, second)
	other.env = append(other.env, s.Env()...)
	_, err := other.send(other.order("R1", to), killEnv+"=data:1")
	wantError(t, err, false, "killed")
	w.write(map[string]string{"third.csv": "3"})
	// What the first one left is about to be deleted: it comes back at this moment.
	var refused error
	back := sync.OnceFunc(func() { _, refused = other.again() })
	overtake := fault(t, s, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete && !strings.Contains(r.URL.Path, "/_") {
			back()
		}
		return false
	})
	w.mustSend(w.order("R2", to), overtake)
	wantError(t, refused, false, "run R2 is about to complete there")
	if _, err := other.again(); err != nil {
		t.Fatal(err)
	}
	all := maps.Clone(second)
	all["third.csv"] = "3"
	wantObjects(t, s, "x/", "R1", all)

	// One that was killed while it deleted keeps the next one waiting for no more
	// than a while.
	for _, c := range []struct{ run, kill string }{{"R3", "data:1"}, {"R4", "stale:1"}} {
		w.write(map[string]string{c.run: c.run})
		_, err := w.send(w.order(c.run, to), killEnv+"="+c.kill)
		wantError(t, err, false, "killed")
	}
	all["R4"] = "R4"
	_, err = w.again()
	wantError(t, err, false, "run R4 is about to complete there, or was cut off")
	if _, err := w.again(noClaimEnv + "=1"); err != nil {
		t.Fatal(err)
	}
	wantObjects(t, s, "x/", "R4", all)
}

func TestAPublishThatIsOvertakenAtItsEndTouchesNothingMore(t *testing.T) {
	t.Parallel()
	to := job.Target{To: "s3://lake/x/"}
	for _, c := range []struct {
		method, name string // the request after which the other one comes
		kill         string // how far it gets
	}{
		{http.MethodPut, manifestName, ""},
		{http.MethodDelete, pendingName, "noted:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, s := newLake(t, first)
			w.mustSend(w.order("R0", to))
			w.write(second)
			var overtaken atomic.Bool
			var once sync.Once
			overtake := fault(t, s, func(_ http.ResponseWriter, r *http.Request) bool {
				if overtaken.Load() {
					once.Do(func() {
						other := newWorld(t, first)
						other.env = append(other.env, s.Env()...)
						if _, err := other.send(other.order("R2", to), killEnv+"="+c.kill); (err == nil) != (c.kill == "") {
							t.Errorf("the other one: %v", err)
						}
					})
				}
				overtaken.CompareAndSwap(false, r.Method == c.method && strings.HasSuffix(r.URL.Path, c.name))
				return false
			})
			_, err := w.send(w.order("R1", to), overtake)
			wantError(t, err, false, "somebody else has begun to publish there")
			if c.kill == "" {
				wantObjects(t, s, "x/", "R2", first)
			} else if keys := s.List(t); slices.Contains(keys, "x/"+successName) {
				t.Errorf("it completed: %q", keys)
			}
		})
	}
}

func TestSuccessIsNeverThereWhileDataIsReplaced(t *testing.T) {
	t.Parallel()
	w, s := newLake(t, first)
	to := job.Target{To: "s3://lake/x/"}
	marker := filepath.Join(s.Root, "lake", "x", successName)
	changes := 0
	var mu sync.Mutex
	watch := fault(t, s, func(_ http.ResponseWriter, r *http.Request) bool {
		name := strings.TrimPrefix(r.URL.Path, "/lake/x/")
		if r.Method == http.MethodGet || r.Method == http.MethodHead || reserved(name) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		changes++
		if _, err := os.Lstat(marker); err == nil {
			t.Errorf("_SUCCESS is there at %s %s", r.Method, name)
		}
		return false
	})
	for i, kill := range []string{"", "noted:1", "unmarked:1", "some-data:1", "data:1", "checked:1", "manifest:1", "stale:1", "swept:1", "marked:1", ""} {
		w.write(sets(i, i))
		env := []string{watch, noClaimEnv + "=1"}
		if kill != "" {
			env = append(env, killEnv+"="+kill)
		}
		_, err := w.send(w.order(fmt.Sprintf("R%d", i), to), env...)
		if (err == nil) != (kill == "") {
			t.Errorf("killed at %q: %v", kill, err)
		}
	}
	wantObjects(t, s, "x/", "R10", sets(10, 10))
	if changes < 30 {
		t.Errorf("only %d changes were seen", changes)
	}
}
