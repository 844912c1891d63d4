package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"belfry/internal/machine"
	"belfry/internal/publish/s3test"
)

// A script as people have it that knows nothing of Belfry: it uploads by itself,
// with what it finds in ~/.aws, names its partition by the local day and prints
// and writes Korean. Only the address of the service is the test's.
const uploads = `
import datetime, json, locale, pathlib, sys
import boto3

s3 = boto3.client("s3", endpoint_url=sys.argv[1])
hours = datetime.datetime.now().astimezone().utcoffset().total_seconds() / 3600
path = pathlib.Path("노래 목록.json")
with open(path, "w") as out:                      # in the encoding of the locale
    json.dump({"가수": "아이유", "시간대": hours}, out, ensure_ascii=False)
s3.upload_file(str(path), "lake", "곡/dt=1/" + path.name)
s3.put_object(Bucket="lake", Key="곡/dt=1/_DONE", Body=b"")
print("올렸다:", path, s3.meta.region_name, locale.getpreferredencoding(), flush=False)
`

func TestAScriptThatUploadsWithBoto3ItselfRunsUnchanged(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("/usr/bin/python3", "-c", "import boto3").CombinedOutput(); err != nil {
		machine.Lacks(t, "boto3 (Debian's package python3-boto3): %s", out)
	}
	s3 := s3test.Start(t)
	p := newPlace(t,
		"upload.py", uploads,
		".aws/credentials", fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s3.AccessKey, s3.SecretKey),
		".aws/config", fmt.Sprintf("[default]\nregion = %s\n", s3.Region),
		"belfry.yaml", fmt.Sprintf("timezone: UTC\njobs:\n  upload: {command: /usr/bin/python3 upload.py %s}\n", s3.Endpoint))
	// As a service has it: no locale, and a zone that is not the schedule's.
	p.env = slices.DeleteFunc(p.env, func(v string) bool { return strings.HasPrefix(v, "LANG=") || strings.HasPrefix(v, "TZ=") })
	p.env = append(p.env, "TZ=Asia/Seoul", "AWS_ACCESS_KEY_ID=the daemon's", "AWS_SECRET_ACCESS_KEY=is no job's")
	out, errs, code := p.belfry("run", "upload")
	if code != 0 || out != "올렸다: 노래 목록.json us-east-1 UTF-8\n" {
		t.Fatalf("it exits with %d and prints\n%s%s", code, out, errs)
	}
	got := s3.Fetch(t, "곡/") // with s3cmd
	text, err := os.ReadFile(filepath.Join(got, "dt=1", "노래 목록.json"))
	if err != nil || string(text) != `{"가수": "아이유", "시간대": 9.0}` {
		t.Errorf("in the bucket is %s, %v", text, err)
	}
	if keys := s3.List(t); len(keys) != 2 {
		t.Errorf("the bucket holds %q", keys)
	}
}
