package publish

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"belfry/internal/job"
	"belfry/internal/publish/s3test"
)

// bare is what a job needs in its environment but for credentials.
func bare(s *s3test.Server) []string {
	return []string{"AWS_ENDPOINT_URL_S3=" + s.Endpoint, "AWS_EC2_METADATA_DISABLED=true"}
}

// home is the home of a job's user, with files below .aws.
func home(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(dir, ".aws", name), text)
	}
	return "HOME=" + dir
}

// sts hands out the keys of the server to who asks rightly.
type sts struct {
	*httptest.Server
	mu      sync.Mutex
	actions []string // guarded by mu
}

func newSTS(t *testing.T, s *s3test.Server, refuses bool) *sts {
	t.Helper()
	service := &sts{}
	service.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		action := r.Form.Get("Action")
		service.mu.Lock()
		service.actions = append(service.actions, action+" "+r.Form.Get("RoleArn")+" "+r.Form.Get("WebIdentityToken"))
		service.mu.Unlock()
		w.Header().Set("Content-Type", "text/xml")
		if refuses {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>session</SessionToken><Expiration>%s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
			action, s.AccessKey, s.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(service.Close)
	return service
}

const roleArn = "arn:aws:iam::123456789012:role/publisher"

func TestCredentialsAreTheJobsOwn(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	keys := fmt.Sprintf("aws_access_key_id = %s\naws_secret_access_key = %s\n", s.AccessKey, s.SecretKey)
	wrong := "aws_access_key_id = wrong\naws_secret_access_key = wrong\n"
	token := filepath.Join(t.TempDir(), "token")
	put(t, token, "ey.web.identity")
	process := filepath.Join(t.TempDir(), "keys")
	put(t, process, fmt.Sprintf("#!/bin/sh\necho '{\"Version\": 1, \"AccessKeyId\": \"%s\", \"SecretAccessKey\": \"%s\"}'\n", s.AccessKey, s.SecretKey))
	if err := os.Chmod(process, 0o755); err != nil {
		t.Fatal(err)
	}
	roles, refusing := newSTS(t, s, false), newSTS(t, s, true)
	gone := httptest.NewServer(nil)
	gone.Close()
	instance := newIMDS(t, s)
	// The server of the test keeps no sessions: one in front of it looks at them.
	sessions := "AWS_ENDPOINT_URL_S3=" + resigned(t, s, func(h http.Header) {
		if token := h.Get("X-Amz-Security-Token"); token != "session" {
			t.Errorf("the session is %q", token)
		}
		h.Del("X-Amz-Security-Token")
	}, func(http.Header) {})
	assume := map[string]string{
		"config":      "[profile lake]\nrole_arn = " + roleArn + "\nsource_profile = base\nregion = us-east-1\n",
		"credentials": "[base]\naws_access_key_id = base\naws_secret_access_key = base\n",
	}
	for _, c := range []struct {
		name  string
		env   []string
		wrong string // what the error says, when there is to be one
		final bool
	}{
		{"environment", []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_REGION=us-east-1"}, "", false},
		{"the default profile", []string{home(t, map[string]string{"credentials": "[default]\n" + keys, "config": "[default]\nregion = us-east-1\n"})}, "", false},
		{"a profile", []string{home(t, map[string]string{"credentials": "[default]\n" + wrong + "[lake]\n" + keys}), "AWS_PROFILE=lake"}, "", false},
		{"the environment before the profile", []string{home(t, map[string]string{"credentials": "[default]\n" + wrong}), "AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey}, "", false},
		{"an endpoint in the profile", []string{home(t, map[string]string{"credentials": "[default]\n" + keys, "config": "[default]\nregion = us-east-1\nendpoint_url = " + s.Endpoint + "\n"}), "AWS_ENDPOINT_URL_S3="}, "", false},
		{"a process", []string{home(t, map[string]string{"config": "[default]\nregion = us-east-1\ncredential_process = " + process + "\n"}), "PATH=/usr/bin:/bin"}, "", false},
		{"a role of a profile", []string{home(t, assume), "AWS_PROFILE=lake", "AWS_ENDPOINT_URL_STS=" + roles.URL, sessions}, "", false},
		{"a role that is refused", []string{home(t, assume), "AWS_PROFILE=lake", "AWS_ENDPOINT_URL_STS=" + refusing.URL}, "could not be got", true},
		{"a role while the service is down", []string{home(t, assume), "AWS_PROFILE=lake", "AWS_ENDPOINT_URL_STS=" + gone.URL}, "could not be got", false},
		{"a role of a profile that is not there", []string{home(t, map[string]string{"config": assume["config"]}), "AWS_PROFILE=lake"}, "read the AWS settings of the job", true},
		{"web identity", []string{"AWS_WEB_IDENTITY_TOKEN_FILE=" + token, "AWS_ROLE_ARN=" + roleArn, "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_STS=" + roles.URL, sessions}, "", false},
		{"web identity without its file", []string{"AWS_WEB_IDENTITY_TOKEN_FILE=/no/such/token", "AWS_ROLE_ARN=" + roleArn, "AWS_REGION=us-east-1", "AWS_ENDPOINT_URL_STS=" + roles.URL}, "/no/such/token", true},
		{"the instance's role", []string{"AWS_EC2_METADATA_DISABLED=", "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + instance, "AWS_REGION=us-east-1", sessions}, "", false},
		{"none", []string{"AWS_REGION=us-east-1"}, "no AWS credentials were found", true},
		{"none on an instance without a role", []string{"AWS_EC2_METADATA_DISABLED=", "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + newIMDS(t, nil), "AWS_REGION=us-east-1"}, "no AWS credentials were found", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, first)
			w.env = append(w.env, bare(s)...)
			prefix := strings.ReplaceAll(c.name, " ", "-") + "/"
			_, err := w.send(w.order("R1", job.Target{To: "s3://lake/" + prefix}), c.env...)
			if c.wrong != "" {
				wantError(t, err, c.final, c.wrong)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantObjects(t, s, prefix, "R1", first)
		})
	}
	t.Cleanup(func() { // when all have ended
		for _, want := range []string{"AssumeRole " + roleArn + " ", "AssumeRoleWithWebIdentity " + roleArn + " ey.web.identity"} {
			count := 0
			for _, action := range roles.actions {
				if action == want {
					count++
				}
			}
			if count != 1 {
				t.Errorf("%q was asked for %d times, want once a publish: %q", want, count, roles.actions)
			}
		}
	})
}

// newIMDS is an instance's metadata service of the second version, which answers
// nobody without a token. An instance without s has no role.
func newIMDS(t *testing.T, s *s3test.Server) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		const ttl = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
		w.Header().Set(ttl, r.Header.Get(ttl))
		fmt.Fprint(w, "imds-token")
	})
	tell := func(path, text string) {
		mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/"+path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Aws-Ec2-Metadata-Token") != "imds-token" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprint(w, text)
		})
	}
	if s != nil {
		tell("{$}", "publisher")
		tell("publisher", fmt.Sprintf(`{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": %q, "SecretAccessKey": %q, "Token": "session", "Expiration": %q}`,
			s.AccessKey, s.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}
