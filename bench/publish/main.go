// Command publish measures how long it takes to bring files into an S3 server, and in how much memory: by Belfry's
// publisher, by Debian's rclone and by Debian's awscli, to the same server (versitygw, on this machine).
//
// They have their turns in the same run, with their own defaults; the ratios are medians over the rounds, each of a round's
// own times. Belfry does more than the others: it writes a manifest with the SHA-256 of every file, compares every object,
// and marks the set as complete. A round takes about two minutes.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 3, "how often each has its turn")
	only := flag.String("only", "", "these alone, with commas between: belfry, rclone, awscli")
	loads := flag.String("loads", "large,small", "which loads")
	parallel := flag.Int("parallel", 0, "publish.parallel of Belfry; 0: its default")
	flag.Parse()
	if err := run(*rounds, *only, *loads, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "publish:", err)
		os.Exit(1)
	}
}

// bench is where everything is built and run.
type bench struct {
	dir      string
	endpoint string
	parallel int
}

// load is what is to be brought there.
type load struct {
	name  string
	files int
	size  int64
}

var loads = map[string]load{
	"large": {"1 file of 2 GiB", 1, 2 << 30},
	"small": {"5,000 files of 10 KiB", 5000, 10 << 10},
}

// contender makes the command that brings the folder from to a prefix of the bucket.
type contender struct {
	name    string
	command func(b *bench, from, prefix string) (*exec.Cmd, error)
}

var contenders = []contender{
	{"belfry", belfry},
	{"rclone", func(b *bench, from, prefix string) (*exec.Cmd, error) {
		cmd := exec.Command("/usr/bin/rclone", "copy", from, ":s3:lake/"+prefix)
		cmd.Env = append(b.env(), "RCLONE_CONFIG=/notfound", "RCLONE_S3_PROVIDER=Other", "RCLONE_S3_ENV_AUTH=true",
			"RCLONE_S3_ENDPOINT="+b.endpoint, "RCLONE_S3_REGION=us-east-1", "RCLONE_S3_NO_CHECK_BUCKET=true")
		return cmd, nil
	}},
	{"awscli", func(b *bench, from, prefix string) (*exec.Cmd, error) {
		cmd := exec.Command("/usr/bin/aws", "--endpoint-url", b.endpoint, "s3", "cp", "--recursive", "--only-show-errors", from, "s3://lake/"+prefix)
		cmd.Env = append(b.env(), "AWS_DEFAULT_REGION=us-east-1")
		return cmd, nil
	}},
}

func (b *bench) env() []string {
	return []string{
		"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + b.dir, "AWS_ACCESS_KEY_ID=belfry", "AWS_SECRET_ACCESS_KEY=tower-secret",
		"AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_S3=" + b.endpoint, "AWS_EC2_METADATA_DISABLED=true",
	}
}

// belfry is the publisher as the daemon starts it. The daemon's part is two lines that it answers.
func belfry(b *bench, from, prefix string) (*exec.Cmd, error) {
	target := map[string]any{"to": "s3://lake/" + prefix}
	if b.parallel > 0 {
		target["parallel"] = b.parallel
	}
	request, err := json.Marshal(map[string]any{"order": map[string]any{
		"job": "bench", "run": "R", "attempt": 1, "output": from, "lock": from + ".lock", "targets": []any{target},
	}})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(b.dir, "belfry"), "publish")
	cmd.Env = b.env()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	go func() { _, _ = in.Write([]byte(string(request) + "\n{}\n{}\n")) }()
	return cmd, nil
}

// turn is what one contender took.
type turn struct {
	took time.Duration
	cpu  time.Duration
	rss  int64 // bytes, of its greatest process
}

func run(rounds int, only, which string, parallel int) error {
	dir, err := os.MkdirTemp("", "belfry-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{dir: dir, parallel: parallel}
	stop, err := b.start()
	if err != nil {
		return err
	}
	defer stop()
	for _, key := range strings.Split(which, ",") {
		l, ok := loads[key]
		if !ok {
			return fmt.Errorf("there is no load %q", key)
		}
		if err := b.measure(l, rounds, only); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measure(l load, rounds int, only string) error {
	from := filepath.Join(b.dir, "output")
	if err := l.make(from); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(from) }()
	turns := map[string][]turn{}
	for round := range rounds {
		for _, c := range contenders {
			if only != "" && !slices.Contains(strings.Split(only, ","), c.name) {
				continue
			}
			prefix := fmt.Sprintf("%s-%d/", c.name, round)
			took, err := b.turn(c, from, prefix)
			if err != nil {
				return err
			}
			there := filepath.Join(b.dir, "s3", "lake", prefix)
			if err := l.check(there); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if err := os.RemoveAll(there); err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%s, %s: %.2f s, %.2f s of the processor, %d MiB\n", l.name, c.name, took.took.Seconds(), took.cpu.Seconds(), took.rss>>20)
			turns[c.name] = append(turns[c.name], took)
		}
	}
	fmt.Printf("| %s | seconds | × belfry | processor, s | peak RSS, MiB |\n|---|--:|--:|--:|--:|\n", l.name)
	for _, c := range contenders {
		own, ours := turns[c.name], turns["belfry"]
		if len(own) == 0 {
			continue
		}
		ratio := "–"
		if len(ours) == len(own) {
			ratio = fmt.Sprintf("%.2f", median(own, func(i int) float64 { return own[i].took.Seconds() / ours[i].took.Seconds() }))
		}
		fmt.Printf("| %s | %.2f | %s | %.2f | %.0f |\n", c.name,
			median(own, func(i int) float64 { return own[i].took.Seconds() }), ratio,
			median(own, func(i int) float64 { return own[i].cpu.Seconds() }),
			median(own, func(i int) float64 { return float64(own[i].rss >> 20) }))
	}
	fmt.Println()
	return nil
}

func median(turns []turn, of func(i int) float64) float64 {
	values := make([]float64, len(turns))
	for i := range turns {
		values[i] = of(i)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func (b *bench) turn(c contender, from, prefix string) (turn, error) {
	cmd, err := c.command(b, from, prefix)
	if err != nil {
		return turn{}, err
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	began := time.Now()
	err = cmd.Run()
	took := turn{took: time.Since(began)}
	if err != nil || c.name == "belfry" && !strings.Contains(said.String(), `"result"`) {
		return took, fmt.Errorf("%s: %v\n%s", c.name, err, said.String())
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	took.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	took.rss = usage.Maxrss << 10
	return took, nil
}

// make writes the load's files, of bytes that nothing compresses.
func (l load) make(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{})
	for i := range l.files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("part-%05d.bin", i)))
		if err != nil {
			return err
		}
		buf := make([]byte, min(l.size, 1<<20))
		for n := int64(0); n < l.size; n += int64(len(buf)) {
			_, _ = random.Read(buf)
			if _, err := f.Write(buf); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// check counts what has arrived.
func (l load) check(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "part-*.bin"))
	if err != nil || len(files) != l.files {
		return fmt.Errorf("%d of %d files are there", len(files), l.files)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || info.Size() != l.size {
			return fmt.Errorf("%s is not whole", name)
		}
	}
	return nil
}

// start builds what is ours and the server, and starts that.
func (b *bench) start() (stop func(), err error) {
	for _, build := range [][]string{
		{"build", "-C", "..", "-p", "2", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(b.dir, "belfry"), "./cmd/belfry"},
		{"build", "-C", "../internal/publish/versitygw", "-p", "2", "-o", filepath.Join(b.dir, "versitygw"), "github.com/versity/versitygw/cmd/versitygw"},
	} {
		cmd := exec.Command("go", build...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(build, " "), err, out)
		}
	}
	root := filepath.Join(b.dir, "s3")
	if err := os.MkdirAll(filepath.Join(root, "lake"), 0o755); err != nil {
		return nil, err
	}
	const port = 17570
	b.endpoint = "http://127.0.0.1:" + strconv.Itoa(port)
	server := exec.Command(filepath.Join(b.dir, "versitygw"), "--access", "belfry", "--secret", "tower-secret", "--region", "us-east-1",
		"--port", "127.0.0.1:"+strconv.Itoa(port), "--quiet", "--keep-alive", "posix", root)
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", strings.TrimPrefix(b.endpoint, "http://")); err == nil {
			return stop, c.Close()
		}
		if time.Now().After(until) {
			stop()
			return nil, fmt.Errorf("versitygw does not answer")
		}
	}
}
