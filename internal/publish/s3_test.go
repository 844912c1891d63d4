package publish

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"belfry/internal/job"
	"belfry/internal/publish/s3test"
)

// newLake is a world whose job reaches a server of its own.
func newLake(t *testing.T, files map[string]string) (*world, *s3test.Server) {
	t.Helper()
	s := s3test.Start(t)
	w := newWorld(t, files)
	w.env = append(w.env, s.Env()...)
	return w, s
}

func wantObjects(t *testing.T, s *s3test.Server, prefix, run string, files map[string]string) {
	t.Helper()
	wantSet(t, s.Fetch(t, prefix), run, files)
}

func TestS3IsReplacedWhole(t *testing.T) {
	t.Parallel()
	w, s := newLake(t, first)
	to := job.Target{To: "s3://lake/top-tracks/dt=2026-11-21/"}
	put(t, filepath.Join(t.TempDir(), "mine"), "")
	r := w.mustSend(w.order("R1", to))
	wantObjects(t, s, "top-tracks/dt=2026-11-21/", "R1", first)
	if got := r.Targets[0]; got.Files != 3 || got.Bytes != 8 || len(r.Warnings) != 0 {
		t.Errorf("result is %+v", r)
	}
	// An object that is not Belfry's stays.
	mine := filepath.Join(t.TempDir(), "mine")
	put(t, mine, "x")
	s.S3cmd(t, "put", mine, "s3://lake/top-tracks/dt=2026-11-21/mine")
	if again, err := w.again(); err != nil || again.Targets[0] != r.Targets[0] {
		t.Errorf("a repeat gave %+v, %v", again, err)
	}
	w.write(second)
	w.mustSend(w.order("R2", to))
	files := map[string]string{}
	for name := range second {
		files[name] = second[name]
	}
	dir := s.Fetch(t, "top-tracks/dt=2026-11-21/")
	if err := os.Remove(filepath.Join(dir, "mine")); err != nil {
		t.Error(err)
	}
	wantSet(t, dir, "R2", files)
	if info := s.S3cmd(t, "info", "s3://lake/top-tracks/dt=2026-11-21/a.csv"); !strings.Contains(info, "text/csv") {
		t.Errorf("a.csv is not text/csv: %s", info)
	}
	w.write(nil)
	o := w.order("R3", to)
	o.IfEmpty = job.IfEmptyOK
	w.mustSend(o)
	if got := s.List(t); len(got) != 3 {
		t.Errorf("after an empty output there is %q", got)
	}
}

func TestS3SurvivesAKillAtEachStep(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for i, c := range []struct {
		kill    string
		success bool // _SUCCESS is there after the kill
		run     string
	}{
		{"noted:1", true, "R1"},
		{"unmarked:1", false, ""},
		{"some-data:1", false, ""},
		{"some-data:4", false, ""},
		{"data:1", false, ""},
		{"checked:1", false, ""},
		{"manifest:1", false, ""},
		{"stale:1", false, ""},
		{"swept:1", false, ""},
		{"marked:1", true, "R2"},
	} {
		t.Run(c.kill, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, first)
			w.env = append(append(w.env, server.Env()...), noClaimEnv+"=1")
			prefix := fmt.Sprintf("t%d/", i)
			to := job.Target{To: "s3://lake/" + prefix}
			w.mustSend(w.order("R1", to))
			w.write(second)
			_, err := w.send(w.order("R2", to), killEnv+"="+c.kill)
			wantError(t, err, false, "killed")
			dir := server.Fetch(t, prefix)
			if m, err := accept(os.DirFS(dir)); (err == nil) != c.success || m.Run != c.run {
				t.Errorf("after the kill a reader accepts run %q (%v), want %q: %q", m.Run, err, c.run, tree(t, dir))
			}
			// Another run, which knows nothing of the first two, is killed there too;
			// it leaves what neither the old manifest nor its own lists.
			w.write(map[string]string{"third.csv": "3", "a.csv": "of the third"})
			_, err = w.send(w.order("R3", to), killEnv+"=some-data:2")
			wantError(t, err, false, "killed")
			if names := tree(t, server.Fetch(t, prefix)); slices.Contains(names, successName) || !slices.Contains(names, "third.csv") {
				t.Errorf("while data is replaced there is %q", names)
			}
			fourth := map[string]string{"fourth.csv": "4"}
			w.write(fourth)
			w.mustSend(w.order("R4", to))
			wantObjects(t, server, prefix, "R4", fourth)
			if again, err := w.again(killEnv + "=noted:1"); err == nil {
				t.Errorf("it was not killed: %+v", again)
			}
			if _, err := w.again(); err != nil {
				t.Fatal(err)
			}
			wantObjects(t, server, prefix, "R4", fourth)
		})
	}
}

func TestSeveralTargetsAreMarkedAfterTheDataOfAll(t *testing.T) {
	t.Parallel()
	w, s := newLake(t, map[string]string{"tracks/a.csv": "1", "audio/b.csv": "2", "audio/x/c.csv": "3"})
	dir := filepath.Join(t.TempDir(), "copy")
	o := w.order("R1", job.Target{From: "tracks", To: "s3://lake/tracks/"}, job.Target{From: "", To: dir}, job.Target{From: "audio/", To: "s3://lake/audio"})
	for _, kill := range []string{"some-data:6", "data:1", "data:3", "checked:1", "manifest:1"} {
		_, err := w.send(o, killEnv+"="+kill)
		wantError(t, err, false, "killed")
		for _, key := range s.List(t) {
			if strings.HasSuffix(key, successName) {
				t.Errorf("%s is there after a kill at %s", key, kill)
			}
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("the directory is there after a kill at %s", kill)
		}
	}
	r, err := w.again()
	if err != nil || len(r.Targets) != 3 {
		t.Fatalf("publish: %+v, %v", r, err)
	}
	wantObjects(t, s, "tracks/", "R1", map[string]string{"a.csv": "1"})
	wantObjects(t, s, "audio/", "R1", map[string]string{"b.csv": "2", "x/c.csv": "3"})
	wantSet(t, dir, "R1", map[string]string{"tracks/a.csv": "1", "audio/b.csv": "2", "audio/x/c.csv": "3"})
	wantAlone(t, dir)
}

func TestS3ManyFilesAndOneLargeOne(t *testing.T) {
	t.Parallel()
	files := map[string]string{"empty.bin": "", "a+b c.csv": "plus", "한국어/파일 이름.json": "{}", "100%~'(x)&=?#.txt": "odd"}
	for i := range 300 {
		files[fmt.Sprintf("part-%03d.jsonl", i)] = fmt.Sprintf("{\"n\": %d}\n", i)
	}
	w, s := newLake(t, files)
	large := make([]byte, 70<<20)
	copy(large[40<<20:], "not only zeros")
	if err := os.WriteFile(filepath.Join(w.output, "large.parquet"), large, 0o644); err != nil {
		t.Fatal(err)
	}
	// Once cut off in the midst, which leaves an upload without an end behind.
	o := w.order("R1", job.Target{To: "s3://lake/many/"})
	_, err := w.send(o, killEnv+"=some-part:3")
	wantError(t, err, false, "killed")
	if r, err := w.again(); err != nil || r.Targets[0].Files != 305 || r.Targets[0].Bytes < 70<<20 {
		t.Fatalf("publish: %+v, %v", r, err)
	}
	dir := s.Fetch(t, "many/")
	if got, err := os.ReadFile(filepath.Join(dir, "large.parquet")); err != nil || !bytes.Equal(got, large) {
		t.Errorf("the large file is another one: %d bytes, %v", len(got), err)
	}
	files["large.parquet"] = string(large)
	wantSet(t, dir, "R1", files)
	if left := s.S3cmd(t, "multipart", "s3://lake/"); strings.Contains(left, "large") {
		t.Errorf("uploads are left: %s", left)
	}
}

func TestPartSize(t *testing.T) {
	t.Parallel()
	b := &objects{part: &part{}}
	for _, size := range []int64{1, 8 << 20, 70 << 20, 78 << 30, 80 << 30, 1 << 40, 5 << 40} {
		part := b.partSize(size)
		if n := (size + part - 1) / part; part < job.DefaultPartSize || n > maxParts {
			t.Errorf("partSize(%d) = %d, which is %d parts", size, part, n)
		}
	}
}

func TestS3RefusalsAreFinalAndSayWhatToDo(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t, "--iam-dir", t.TempDir())
	w := newWorld(t, first)
	w.env = append(w.env, s.Env()...)
	to := job.Target{To: "s3://lake/x/"}
	_, err := w.send(w.order("R1", job.Target{To: "s3://no-such-lake/x/"}))
	wantError(t, err, true, `no bucket "no-such-lake"`, s.Endpoint, "create it")
	_, err = w.send(w.order("R1", to), s.AddUser(t, "stranger")...)
	wantError(t, err, true, "access denied: allow s3:PutObject")
	_, err = w.send(w.order("R1", to), "AWS_REGION=ap-northeast-2")
	wantError(t, err, true, `"lake" is not in the region ap-northeast-2`, "set AWS_REGION to us-east-1")
	_, err = w.send(w.order("R1", to), "AWS_SECRET_ACCESS_KEY=wrong")
	wantError(t, err, true, "AWS_SECRET_ACCESS_KEY")
	_, err = w.send(w.order("R1", to), "AWS_ACCESS_KEY_ID=nobody")
	wantError(t, err, true, "AWS_ACCESS_KEY_ID")
	_, err = w.send(w.order("R1", to), "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=")
	wantError(t, err, true, "no AWS credentials were found", "env_file")
	_, err = w.send(w.order("R1", to), "AWS_PROFILE=nobody")
	wantError(t, err, true, "nobody")
	_, err = w.send(w.order("R1", to), "AWS_ENDPOINT_URL_S3=", "AWS_REGION=")
	wantError(t, err, true, "set AWS_REGION")
	_, err = w.send(w.order("R1", job.Target{To: "s3://lake/" + strings.Repeat("x", 1020)}))
	wantError(t, err, true, "too long")
	if got := s.List(t); len(got) != 0 {
		t.Errorf("refused publishes left %q", got)
	}
}

func TestS3ThatIsDownIsTriedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	w := newWorld(t, first)
	w.env = append(w.env, "AWS_ENDPOINT_URL_S3=http://"+l.Addr().String(), "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y")
	_, err = w.send(w.order("R1", job.Target{To: "s3://lake/x/"}))
	wantError(t, err, false, "nothing listens", l.Addr().String(), "AWS_ENDPOINT_URL_S3")
}

// fault stands before a server and answers some requests itself.
func fault(t *testing.T, s *s3test.Server, answer func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	to, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answer(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	return "AWS_ENDPOINT_URL_S3=" + front.URL
}

func refuse(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Amz-Bucket-Region", "ap-northeast-2")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<Error><Code>%s</Code><Message>said %s</Message></Error>`, code, code)
	return true
}

func TestS3AnswersAreUnderstood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		code   string
		final  bool
		want   string
	}{
		{404, "NoSuchBucket", true, `there is no bucket "lake"`},
		{403, "AccessDenied", true, "allow s3:PutObject"},
		{403, "InvalidAccessKeyId", true, "correct AWS_ACCESS_KEY_ID"},
		{403, "SignatureDoesNotMatch", true, "correct AWS_SECRET_ACCESS_KEY"},
		{301, "PermanentRedirect", true, "set AWS_REGION to ap-northeast-2"},
		{307, "TemporaryRedirect", true, "set AWS_REGION to ap-northeast-2"},
		{400, "AuthorizationHeaderMalformed", true, "set AWS_REGION to ap-northeast-2"},
		{400, "ExpiredToken", true, "sign in again"},
		{400, "InvalidToken", true, "sign in again"},
		{403, "RequestTimeTooSkewed", false, "timedatectl set-ntp true"},
		{403, "RequestExpired", false, "timedatectl set-ntp true"},
		{400, "InvalidStorageClass", true, `no storage class "COLD"`},
		{400, "KMS.NotFoundException", true, `the key "k" cannot be used`},
		{503, "SlowDown", false, "not up to it"},
		{400, "RequestTimeout", false, "not up to it"},
		{500, "Whatever", false, "answered 500"},
		{507, "XMinioStorageFull", false, "space"},
		{400, "Whatever", true, "refuses"},
		{501, "Whatever", true, "refuses"},
	} {
		t.Run(c.code, func(t *testing.T) {
			t.Parallel()
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && c.code == "AccessDenied" {
					refuse(w, 404, "NoSuchKey")
					return
				}
				refuse(w, c.status, c.code)
			}))
			defer front.Close()
			w := newWorld(t, first)
			w.env = append(w.env, "AWS_ENDPOINT_URL_S3="+front.URL, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=y")
			_, err := w.send(w.order("R1", job.Target{To: "s3://lake/x/", StorageClass: "COLD", KMSKey: "k"}))
			wantError(t, err, c.final, "s3://lake/x/", c.want)
		})
	}
}

func TestS3FaultsOnTheWay(t *testing.T) {
	t.Parallel()
	isManifest := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, manifestName) }
	conditional := func(r *http.Request) bool {
		return r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Match") != ""
	}
	for _, c := range []struct {
		name    string
		answer  func(s *s3test.Server) func(w http.ResponseWriter, r *http.Request) bool
		fails   string // "" is published in spite of it
		warning string
	}{
		{name: "reading the old manifest is denied", warning: "s3:GetObject", answer: func(*s3test.Server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodGet && isManifest(r) && refuse(w, 403, "AccessDenied")
			}
		}},
		{name: "comparing is denied", warning: "not compared", answer: func(*s3test.Server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				return r.Method == http.MethodHead && refuse(w, 403, "")
			}
		}},
		{name: "conditions are not known", answer: func(*s3test.Server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				return conditional(r) && refuse(w, 501, "NotImplemented")
			}
		}},
		{name: "another size is there", fails: "bytes were sent", answer: func(*s3test.Server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					w.Header().Set("Content-Length", "77")
				}
				return r.Method == http.MethodHead
			}
		}},
		{name: "somebody else published meanwhile", fails: "somebody else", answer: func(*s3test.Server) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				return conditional(r) && isManifest(r) && refuse(w, 412, "PreconditionFailed")
			}
		}},
		{name: "the body is another one on the way", fails: "a.csv", answer: func(*s3test.Server) func(http.ResponseWriter, *http.Request) bool {
			return func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "a.csv") {
					data, _ := io.ReadAll(r.Body)
					data[0] ^= 1
					r.Body = io.NopCloser(bytes.NewReader(data))
				}
				return false
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, s := newLake(t, first)
			w.mustSend(w.order("R1", job.Target{To: "s3://lake/x/"}))
			w.write(map[string]string{"a.csv": "changed", "gone.csv": "", "sub/b.json": ""})
			r, err := w.send(w.order("R2", job.Target{To: "s3://lake/x/"}), fault(t, s, c.answer(s)))
			if c.fails != "" {
				wantError(t, err, false, c.fails)
				if got := s.List(t); slices.Contains(got, "x/"+successName) {
					t.Errorf("_SUCCESS is there: %q", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantObjects(t, s, "x/", "R2", map[string]string{"a.csv": "changed", "gone.csv": "", "sub/b.json": ""})
			if got := fmt.Sprint(r.Warnings); (len(r.Warnings) > 0) != (c.warning != "") || !strings.Contains(got, c.warning) {
				t.Errorf("warnings are %s, want one with %q", got, c.warning)
			}
		})
	}
}
