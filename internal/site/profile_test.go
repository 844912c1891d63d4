package site

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAProfileIsPutBesideThoseThatAreThere(t *testing.T) {
	laptop, host := t.TempDir(), t.TempDir()
	write := func(home, file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(home, ".aws"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, ".aws", file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(file string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(host, ".aws", file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	write(laptop, "credentials", "[other]\naws_access_key_id = O\n\n[lake]\naws_access_key_id = A\naws_secret_access_key = B\n\n[last]\nx = y\n")
	write(laptop, "config", "[profile lake]\nregion = ap-northeast-2\n[profile sso]\nsso_session = me\n")
	p, err := ReadProfile(laptop, "lake")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", host)
	write(host, "credentials", "[mine]\nk = v\n[lake]\naws_access_key_id = OLD\n[zoo]\nz = 1")
	kept, link := filepath.Join(host, "kept-elsewhere"), filepath.Join(host, ".aws", "credentials")
	if err := errors.Join(os.Rename(link, kept), os.Symlink(kept, link)); err != nil {
		t.Fatal(err)
	}
	s := &Site{Root: filepath.Join(host, "music")}
	for i, want := range []bool{true, false} {
		if changed, err := s.WriteProfile(t.Context(), p); err != nil || changed != want {
			t.Errorf("write %d: changed %v, %v", i+1, changed, err)
		}
	}
	if got, want := read("credentials"), "[mine]\nk = v\n[lake]\naws_access_key_id = A\naws_secret_access_key = B\n[zoo]\nz = 1"; got != want {
		t.Errorf("credentials are\n%s\nwant\n%s", got, want)
	}
	if to, err := os.Readlink(link); err != nil || to != kept {
		t.Errorf("what was a link is %q, %v", to, err)
	}
	if got, want := read("config"), "[profile lake]\nregion = ap-northeast-2\n"; got != want {
		t.Errorf("config is\n%s\nwant\n%s", got, want)
	}
	for name, want := range map[string]string{"sso": "has no keys of its own", "none": "there is no AWS profile"} {
		if _, err := ReadProfile(laptop, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the profile %s: %v, want %q", name, err, want)
		}
	}
}
