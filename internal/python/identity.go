package python

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// identity gives the name of the environment that lies in dir and is made by an
// interpreter from a requirements file: a hash of all that makes it what it is.
// Left out are comments, and what an index would answer: as on every machine,
// “requests” without a version means the one that was there on the day of the
// install.
func identity(dir string, p interpreter, requirements string) (string, error) {
	h := content{Hash: sha256.New(), seen: map[string]bool{}}
	fmt.Fprintf(h, "1 %s %s %q %q %q\n", runtime.GOOS, runtime.GOARCH, dir, p.path, p.minor())
	if requirements != "" {
		if info, err := os.Stat(requirements); err == nil && info.IsDir() {
			return "", fmt.Errorf("%s is a folder, not a requirements file", requirements)
		}
		if err := h.requirements(requirements); err != nil {
			return "", fmt.Errorf("read the requirements: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:10]), nil
}

// content is the hash of what requirements say.
type content struct {
	hash.Hash
	seen map[string]bool // files that were read
}

var (
	comment   = regexp.MustCompile(`(^|\s+)#.*$`)
	including = regexp.MustCompile(`^(?:-r|-c|--requirement|--constraint)[\s=]*(.+)$`)
	editable  = regexp.MustCompile(`^(?:-e|--editable)[\s=]*(.+)$`)
	archive   = regexp.MustCompile(`(?i)\.(whl|zip|tar\.gz|tgz|tar\.bz2|tar\.xz)$`)
	extras    = regexp.MustCompile(`\[[^\]]*\]$`)
)

// requirements adds a file, line by line, with all that it includes.
func (c content) requirements(file string) error {
	c.seen[file] = true
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
		line = strings.TrimSpace(comment.ReplaceAllString(line, ""))
		if line == "" {
			continue
		}
		fmt.Fprintf(c, "%q\n", line)
		if parts := including.FindStringSubmatch(line); parts != nil {
			included := parts[1]
			if strings.Contains(included, "://") {
				continue
			}
			if !filepath.IsAbs(included) {
				included = filepath.Join(filepath.Dir(file), included)
			}
			if c.seen[included] {
				continue
			}
			// What is not there is told by the installer.
			if err := c.requirements(included); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := c.local(line); err != nil {
			return err
		}
	}
	return nil
}

// local adds the file or folder of this machine that a requirement names, if it
// names one: relative ones are found from the working folder, as pip does.
func (c content) local(line string) error {
	parts := editable.FindStringSubmatch(line)
	if parts != nil {
		line = parts[1]
	}
	name, _, _ := strings.Cut(line, ";") // what follows says where it is wanted
	if _, after, found := strings.Cut(name, " @ "); found {
		name = after
	}
	name, _, _ = strings.Cut(strings.TrimSpace(name), " ") // --hash and the like follow
	name = extras.ReplaceAllString(strings.TrimPrefix(name, "file://"), "")
	if !strings.HasPrefix(name, ".") && !strings.Contains(name, "/") && !archive.MatchString(name) || strings.Contains(name, "://") {
		return nil // from an index, or the web
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil //nolint:nilerr // what is not there is told by the installer
	case !info.IsDir():
		return c.file(name)
	case parts != nil:
		return c.inPlace(name)
	}
	return c.tree(name)
}

func (c content) file(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	fmt.Fprintf(c, "%q\n", name)
	_, err = io.Copy(c, file)
	return err
}

// inPlace adds a package that stays where it is (-e): its place, and what says
// what it needs. Its code is read from there at each start.
func (c content) inPlace(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(c, "%q\n", abs)
	for _, name := range []string{"pyproject.toml", "setup.cfg", "setup.py"} {
		if err := c.file(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// tree adds a folder that is built and installed, without what building it
// leaves there.
func (c content) tree(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != dir && (strings.HasPrefix(name, ".") || name == "build" || name == "__pycache__" || strings.HasSuffix(name, ".egg-info")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		return c.file(path)
	})
}
