package crashtest

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// targets are how many prefixes of the bucket get set after set while daemons are
// killed and readers read.
const targets = 3

// bucketEnvironment is what a job needs to reach the bucket, as YAML.
func (c *campaign) bucketEnvironment() string {
	var list []string
	for _, v := range c.bucket.Env() {
		name, value, _ := strings.Cut(v, "=")
		list = append(list, fmt.Sprintf("%s: %q", name, value))
	}
	return strings.Join(list, ", ")
}

// reader polls the prefixes that are its arguments, behind endpoint, bucket and
// the bucket's folder, until its standard input ends. It is two readers in one.
// The first keeps the contract of docs/publishing.md, and accepts a set when all
// files have the sums of their manifest. The second looks at _SUCCESS alone, before
// and after: when that is the very same object, by the file that the service keeps
// it in, everything between is of one set. Each file says in all its lines whose
// it is, and so what was accepted is known to be one set or not.
const reader = `
import hashlib, json, os, select, sys
import boto3, botocore.exceptions

endpoint, bucket, root, prefixes = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
s3 = boto3.client("s3", endpoint_url=endpoint)
counts = {"accepted": 0, "refused": 0, "stood": 0, "sets": 0, "wrong": []}
last = {}

def get(key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()

def mark(prefix):
    try:
        at = os.stat(os.path.join(root, prefix, "_SUCCESS"))
    except FileNotFoundError:
        return None
    return at.st_ino, at.st_mtime_ns

def look(prefix):
    before = mark(prefix)
    get(prefix + "_SUCCESS")
    manifest = json.loads(get(prefix + "_manifest.json"))
    whose, whole = set(), True
    for entry in manifest["files"]:
        try:
            data = get(prefix + entry["path"])
        except s3.exceptions.NoSuchKey:
            whole = False
            continue
        whose.update(data.decode().split())
        whole = whole and hashlib.sha256(data).hexdigest() == entry["sha256"]
    after = mark(prefix)
    if whole:
        counts["accepted"] += 1
        if whose != {manifest["run"]}:
            counts["wrong"].append(f"{prefix}: the files of {sorted(whose)} were accepted as those of {manifest['run']}")
        if last.get(prefix) != manifest["run"]:
            last[prefix] = manifest["run"]
            counts["sets"] += 1
    else:
        counts["refused"] += 1
    if before is not None and before == after:
        counts["stood"] += 1
        if not whole or whose != {manifest["run"]}:
            counts["wrong"].append(f"{prefix}: _SUCCESS stood while {sorted(whose)} were there, and {manifest['run']} in the manifest")

while not select.select([sys.stdin], [], [], 0.02)[0]:
    for prefix in prefixes:
        try:
            look(prefix)
        except (s3.exceptions.NoSuchKey, botocore.exceptions.ConnectionError):
            continue
print(json.dumps(counts))
`

// readers are the process of reader.
type readers struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout io.Reader
}

// read sets readers going.
func (c *campaign) read() *readers {
	c.t.Helper()
	args := []string{"-c", reader, c.bucket.Endpoint, c.bucket.Bucket, filepath.Join(c.bucket.Root, c.bucket.Bucket)}
	for i := range targets {
		args = append(args, fmt.Sprintf("bucket-%d/", i))
	}
	cmd := exec.Command("/usr/bin/python3", args...)
	cmd.Env = append(c.bucket.Env(), "AWS_DEFAULT_REGION="+c.bucket.Region, "HOME="+c.t.TempDir(), "LANG=C.UTF-8")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &readers{cmd, stdin, stdout}
}

// end has the readers say what they saw.
func (r *readers) end(c *campaign) {
	c.t.Helper()
	_ = r.stdin.Close()
	var counts struct {
		Accepted, Refused, Stood, Sets int
		Wrong                          []string
	}
	text, err := io.ReadAll(r.stdout)
	if err == nil {
		err = json.Unmarshal(text, &counts)
	}
	if waitErr := r.cmd.Wait(); err != nil || waitErr != nil {
		c.t.Fatalf("the readers ended with %v, %v: %s", err, waitErr, text)
	}
	c.t.Logf("readers accepted %d times, %d different sets, and refused %d times; _SUCCESS stood %d times",
		counts.Accepted, counts.Sets, counts.Refused, counts.Stood)
	for _, wrong := range counts.Wrong {
		c.t.Error(wrong)
	}
	if counts.Sets < 2*targets || counts.Stood == 0 {
		c.t.Error("the readers have seen too little for that to say anything")
	}
}

// whole checks that at the end nothing is in the bucket but what the manifests list.
func (c *campaign) whole() {
	c.t.Helper()
	for i := range targets {
		dir := filepath.Join(c.bucket.Root, c.bucket.Bucket, fmt.Sprintf("bucket-%d", i))
		var manifest struct{ Files []struct{ Path string } }
		text, err := os.ReadFile(filepath.Join(dir, "_manifest.json"))
		if err == nil {
			err = json.Unmarshal(text, &manifest)
		}
		if err != nil {
			c.t.Errorf("%s: %v", dir, err)
			continue
		}
		known := map[string]bool{"_manifest.json": true, "_SUCCESS": true}
		for _, f := range manifest.Files {
			known[f.Path] = true
		}
		err = fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && !known[path] {
				c.t.Errorf("%s: %s is in no manifest", dir, path)
			}
			delete(known, path)
			return err
		})
		if err != nil {
			c.t.Error(err)
		}
		for path := range known {
			c.t.Errorf("%s: %s is not there", dir, path)
		}
	}
}
