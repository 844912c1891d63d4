package run

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"belfry/crontab"
	"belfry/internal/job"
)

func TestSecretsAreThoseOfTheFileAndOfTellingNames(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(file, []byte("REGION=ap-northeast-2\nPLAIN='of the file'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := &job.Job{Settings: &job.Settings{EnvFile: file}}
	var env Environ
	for _, v := range []crontab.Var{
		{Name: "REGION", Value: "ap-northeast-2"},
		{Name: "PLAIN", Value: "of the file"},
		{Name: "MARKET", Value: "Korea"},
		{Name: "api_token", Value: "t0ken"},
		{Name: "DB_PASSWORD", Value: "pass"},
		{Name: "BELFRY_JOB", Value: "secret"},
		{Name: "BELFRY_TOKEN", Value: "of ours"},
	} {
		env.Set(v.Name, v.Value)
	}
	if got, want := hidden(j, env, host), []string{"ap-northeast-2", "of the file", "pass", "t0ken"}; !slices.Equal(got, want) {
		t.Errorf("secrets are %q, want %q", got, want)
	}
	if got := hidden(&job.Job{Settings: &job.Settings{EnvFile: file + ".gone"}}, nil, host); len(got) != 0 {
		t.Errorf("without a file they are %q", got)
	}
}
