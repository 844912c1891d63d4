package site

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"belfry/internal/project"
)

// Lacks gives the hashes of the files of a release that are nowhere on this host:
// in no release that is here, and not among those that were sent.
func (s *Site) Lacks(r project.Release) ([]string, error) {
	list := []string{}
	if s.whole(r.Name()) {
		return list, nil
	}
	have, err := s.sources()
	if err != nil {
		return nil, err
	}
	asked := map[string]bool{}
	for _, f := range r.Files {
		if f.SHA256 == "" || asked[f.SHA256] {
			continue
		}
		asked[f.SHA256] = true
		if _, ok := have.find(f); !ok {
			list = append(list, f.SHA256)
		}
	}
	slices.Sort(list)
	return list, nil
}

// whole reports whether a release is here: its folder gets its name last, and its list
// goes first.
func (s *Site) whole(name string) bool {
	_, unlisted := os.Stat(s.list(name))
	info, err := os.Stat(s.release(name))
	return unlisted == nil && err == nil && info.IsDir()
}

// lists are the paths of the lists of releases.
func (s *Site) lists() ([]string, error) {
	return filepath.Glob(filepath.Join(escape(s.path(project.ReleasesName)), "*.json"))
}

// sources knows where files with a hash may be.
type sources map[string][]string // SHA-256 → paths

func (s *Site) sources() (sources, error) {
	have := sources{}
	lists, err := s.lists()
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return nil, fmt.Errorf("read the list of a release: %w", err)
		}
		var r project.Release
		if json.Unmarshal(text, &r) != nil {
			continue // half written by a host that lost its power; its files are not needed
		}
		dir := strings.TrimSuffix(list, ".json")
		for _, f := range r.Files {
			if f.SHA256 != "" {
				have[f.SHA256] = append(have[f.SHA256], filepath.Join(dir, f.Path))
			}
		}
	}
	incoming, err := os.ReadDir(s.path(IncomingName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look at what was sent: %w", err)
	}
	for _, entry := range incoming {
		have[entry.Name()] = append(have[entry.Name()], s.path(IncomingName, entry.Name()))
	}
	return have, nil
}

// escape makes a path a pattern that matches it alone.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// find gives a file that still has the hash that it is known by: a job may have
// written into its release.
func (have sources) find(f project.ReleaseFile) (string, bool) {
	for _, path := range have[f.SHA256] {
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
			continue
		}
		if sum, _, err := project.HashFile(path); err == nil && sum == f.SHA256 {
			return path, true
		}
	}
	return "", false
}

// Unpack makes a release of files that are here. A release is whole or not there.
func (s *Site) Unpack(ctx context.Context, r project.Release) error {
	return s.locked(ctx, func() error {
		if s.whole(r.Name()) {
			return nil
		}
		dir := s.release("." + r.Name() + ".new")
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what is left of an earlier try: %w", err)
		}
		if err := s.unpack(r, dir); err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
		if err := os.RemoveAll(s.path(IncomingName)); err != nil {
			return fmt.Errorf("remove what was sent: %w", err)
		}
		return nil
	})
}

func (s *Site) unpack(r project.Release, dir string) error {
	have, err := s.sources()
	if err != nil {
		return err
	}
	// 0700: a release may hold secrets.
	for _, path := range []string{dir, s.path(DataName)} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("make the release: %w", err)
		}
	}
	for _, f := range r.Files {
		if !filepath.IsLocal(f.Path) {
			return fmt.Errorf("the release names %q, which lies outside of it", f.Path)
		}
		to := filepath.Join(dir, f.Path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("make the release: %w", err)
		}
		if f.Link != "" {
			if err := os.Symlink(f.Link, to); err != nil {
				return fmt.Errorf("make the release: %w", err)
			}
			continue
		}
		from, ok := have.find(f)
		if !ok {
			return fmt.Errorf("%q was not sent, or not as it was meant", f.Path)
		}
		if err := put(from, to, f); err != nil {
			return fmt.Errorf("make the release: %w", err)
		}
	}
	for _, shared := range r.Shared {
		if err := s.share(dir, shared); err != nil {
			return fmt.Errorf("make the release: %w", err)
		}
	}
	if err := os.Symlink(filepath.Join("..", "..", DataName), filepath.Join(dir, ".belfry")); err != nil {
		return fmt.Errorf("make the release: %w", err)
	}
	// What a removal left that was cut short goes before there is a list of it again.
	if err := os.RemoveAll(s.release(r.Name())); err != nil {
		return fmt.Errorf("make the release: %w", err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := replace(s.list(r.Name()), text, 0o600); err != nil {
		return fmt.Errorf("make the release: %w", err)
	}
	syscall.Sync() // all of it, before it gets its name
	return os.Rename(dir, s.release(r.Name()))
}

// put copies a file and compares what was written with what was meant.
func put(from, to string, f project.ReleaseFile) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	if err = errors.Join(err, out.Chmod(f.Mode.Perm()), out.Close()); err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != f.Size || sum != f.SHA256 {
		return fmt.Errorf("%q changed while it was copied", f.Path)
	}
	return nil
}

// share makes a folder of a release a link to the one that outlives it.
func (s *Site) share(dir, shared string) error {
	if !filepath.IsLocal(shared) {
		return fmt.Errorf("the release shares %q, which lies outside of it", shared)
	}
	if err := os.MkdirAll(s.path(project.SharedName, shared), 0o755); err != nil {
		return err
	}
	link := filepath.Join(dir, shared)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	up := strings.Repeat("../", strings.Count(filepath.ToSlash(shared), "/")+2)
	return os.Symlink(up+project.SharedName+"/"+shared, link)
}
