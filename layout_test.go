package belfry

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports says which of our packages each of them may import. Arrows point from
// the process's edge to the nouns (DESIGN.md §3).
var imports = map[string][]string{
	"api":                        {"internal/socket"},
	"crontab":                    {},
	"internal/proc":              {"internal/proc/early", "internal/socket"},
	"internal/proc/early":        {},
	"internal/socket":            {},
	"internal/crash":             {},
	"internal/proc/proctest":     {},
	"internal/machine":           {},
	"internal/service":           {},
	"internal/syslog":            {},
	"internal/outbox":            {"internal/crash"},
	"internal/logs":              {"internal/secrets"},
	"internal/secrets":           {},
	"internal/job":               {"crontab"},
	"internal/plan":              {"crontab", "internal/job"},
	"internal/project":           {"crontab", "internal/job", "internal/secrets"},
	"internal/python":            {"internal/job", "internal/secrets"},
	"internal/python/pythontest": {},
	"internal/site":              {"api", "internal/project", "internal/secrets", "internal/service"},
	"internal/remote":            {"api", "internal/project", "internal/site"},
	"internal/remote/sshtest":    {"internal/machine"},
	"internal/run":               {"crontab", "internal/crash", "internal/job", "internal/outbox", "internal/plan", "internal/proc", "internal/python", "internal/secrets"},
	"internal/store":             {"internal/job", "internal/logs", "internal/outbox", "internal/plan", "internal/run"},
	"internal/publish":           {"internal/job", "internal/outbox"},
	"internal/publish/s3test":    {},
	"internal/system":            {"crontab", "internal/job", "internal/service"},
	"internal/notify":            {"internal/job", "internal/outbox"},
	"internal/server":            {"api", "crontab", "internal/job", "internal/logs", "internal/outbox", "internal/plan", "internal/run", "internal/system"},
	"internal/daemon": {
		"api", "crontab", "internal/crash", "internal/job", "internal/logs", "internal/notify", "internal/outbox", "internal/plan", "internal/proc",
		"internal/project", "internal/publish", "internal/python", "internal/run", "internal/server", "internal/socket", "internal/store", "internal/syslog", "internal/system",
	},

	// proc, publish and python are there for the bodies of hidden commands, which
	// daemons of ours execute; job for names and zones.
	"internal/doctor": {"api", "internal/daemon", "internal/job", "internal/secrets", "internal/system"},
	"internal/cli":    {"api", "crontab", "internal/daemon", "internal/doctor", "internal/job", "internal/notify", "internal/proc", "internal/project", "internal/publish", "internal/python", "internal/remote", "internal/run", "internal/secrets", "internal/site", "internal/syslog", "internal/system"},
	"cmd/belfry":      {"internal/cli"},
}

// modules says which packages import a third-party module: one each.
var modules = map[string][]string{
	"filippo.io/age":                  {"internal/secrets"},
	"github.com/aws/aws-sdk-go-v2":    {"internal/publish"},
	"github.com/aws/smithy-go":        {"internal/publish"},
	"github.com/fsnotify/fsnotify":    {"internal/daemon"},
	"github.com/klauspost/compress":   {"internal/logs"},
	"github.com/pressly/goose/v3":     {"internal/store"},
	"github.com/spf13/cobra":          {"internal/cli"},
	"github.com/skeema/knownhosts":    {"internal/remote"},
	"golang.org/x/crypto":             {"internal/remote"},
	"golang.org/x/term":               {"internal/cli"},
	"golang.org/x/text":               {"internal/project"},
	"go.yaml.in/yaml/v4":              {"internal/project"},
	"modernc.org/sqlite":              {"internal/store"},
	"github.com/Shopify/toxiproxy/v2": {},                                                                                                                                                                                              // tests only: a network that is ill
	"github.com/rs/zerolog":           {},                                                                                                                                                                                              // tests only: toxiproxy asks for it
	"github.com/google/go-cmp":        {},                                                                                                                                                                                              // tests only
	"github.com/rogpeppe/go-internal": {},                                                                                                                                                                                              // tests only
	"pgregory.net/rapid":              {},                                                                                                                                                                                              // tests only
	"golang.org/x/sys":                {"internal/cli", "internal/daemon", "internal/doctor", "internal/logs", "internal/notify", "internal/proc", "internal/proc/proctest", "internal/publish", "internal/python", "internal/system"}, // the kernel's own names
}

// pure lists packages that do no I/O and never ask the time.
var pure = map[string]bool{"crontab": true, "internal/plan": true}

// impure are the standard library's ways out of a pure package.
var impure = []string{"os", "net", "io/ioutil", "database/sql", "os/exec", "net/http", "syscall", "log", "log/slog"}

func TestPackagesImportOnlyWhatTheLayoutAllows(t *testing.T) {
	for file, list := range sources(t) {
		pkg := path.Dir(file)
		allowed, known := imports[pkg]
		if !known {
			t.Errorf("%s: package %s is not in the layout; add it to imports in layout_test.go and to DESIGN.md §3", file, pkg)
			continue
		}
		for _, imported := range list {
			if ours, ok := strings.CutPrefix(imported, "belfry/"); ok {
				if !slices.Contains(allowed, ours) {
					t.Errorf("%s imports %s, which %s may not", file, ours, pkg)
				}
				continue
			}
			if pure[pkg] && slices.Contains(impure, imported) {
				t.Errorf("%s imports %s, but %s does no I/O", file, imported, pkg)
			}
			if module := moduleOf(imported); module != "" && !slices.Contains(modules[module], pkg) {
				t.Errorf("%s imports module %s, which belongs to %v", file, module, modules[module])
			} else if module == "" && strings.Contains(strings.Split(imported, "/")[0], ".") {
				t.Errorf("%s imports %s, a module that layout_test.go does not know", file, imported)
			}
		}
	}
}

func TestPurePackagesNeverAskTheTime(t *testing.T) {
	for file := range sources(t) {
		if !pure[path.Dir(file)] {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"time.Now(", "time.Since(", "time.Until(", "time.Sleep(", "time.After(", "time.NewTimer("} {
			if strings.Contains(string(text), call) {
				t.Errorf("%s calls %s): its time is an argument", file, call)
			}
		}
	}
}

func TestEveryPackageOfTheLayoutIsThere(t *testing.T) {
	found := map[string]bool{}
	for file := range sources(t) {
		found[path.Dir(file)] = true
	}
	for pkg := range maps.Keys(imports) {
		if !found[pkg] {
			t.Errorf("layout_test.go speaks of %s, which is not there", pkg)
		}
	}
}

func moduleOf(imported string) string {
	for module := range modules {
		if imported == module || strings.HasPrefix(imported, module+"/") {
			return module
		}
	}
	return ""
}

// sources gives what each file of ours imports, tests left out. They are read
// as they are on the disk, so that no cached result is stale.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && file != "." {
			if name := entry.Name(); strings.HasPrefix(name, ".") || name == "testdata" {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil {
				return filepath.SkipDir // a module of its own
			}
		}
		if entry.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		list := []string{}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			list = append(list, imported)
		}
		files[filepath.ToSlash(file)] = list
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no sources were found")
	}
	return files
}
