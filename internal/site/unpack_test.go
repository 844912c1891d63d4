package site

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"belfry/api"
	"belfry/internal/machine"
	"belfry/internal/project"
)

// sent has a site take files, and gives the release that they are.
func sent(t *testing.T, s *Site, files map[string]string) project.Release {
	t.Helper()
	r := project.Release{Project: "music"}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for path, text := range files {
		sum := sha256.Sum256([]byte(text))
		f := project.ReleaseFile{Path: path, Mode: 0o644, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
		head, err := json.Marshal(Sent{SHA256: f.SHA256, Size: f.Size})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(z, "%s\n%s", head, text) // memory takes it
		r.Files = append(r.Files, f)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Receive(t.Context(), &packed); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAReleaseWhoseRemovalWasCutShortIsMadeAgain(t *testing.T) {
	t.Parallel()
	for what, remove := range map[string]func(s *Site) error{
		"collected": func(s *Site) error { _, err := s.collect(t.Context()); return err },
		"removed":   func(s *Site) error { return s.Remove(t.Context(), false) },
	} {
		s, _ := daemon(t, &api.Health{Plans: true})
		files := map[string]string{"belfry.yaml": "jobs: {}", "scripts/a.sh": "a", "zz/b.sh": "b"}
		r := sent(t, s, files)
		if err := s.Unpack(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		busy := filepath.Join(s.release(r.Name()), "zz") // ends the removal half way, as kill -9 would
		if out, err := exec.Command("mount", "-t", "tmpfs", "tmpfs", busy).CombinedOutput(); err != nil {
			machine.Lacks(t, "the right to mount a tmpfs: %s", out)
		}
		err := remove(s)
		if out, err := exec.Command("umount", busy).CombinedOutput(); err != nil {
			t.Fatalf("umount: %v\n%s", err, out)
		}
		if err == nil {
			t.Fatalf("%s: nothing was in its way", what)
		}
		lacks, err := s.Lacks(r)
		if err != nil || len(lacks) == 0 {
			t.Errorf("%s: it lacks %v, %v", what, lacks, err)
		}
		sent(t, s, files)
		if err := s.Unpack(t.Context(), r); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for path, text := range files {
			if got, err := os.ReadFile(filepath.Join(s.release(r.Name()), path)); err != nil || string(got) != text {
				t.Errorf("%s: %s is %q, %v", what, path, got, err)
			}
		}
	}
}
