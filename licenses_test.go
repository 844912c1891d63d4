package belfry

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// marks are sentences by which a licence is known.
var marks = []struct{ licence, text string }{
	{"Apache-2.0", "apache license"},
	{"MPL-2.0", "mozilla public license"},
	{"MIT", "permission is hereby granted, free of charge"},
	{"BSD", "redistribution and use in source and binary forms"},
}

func TestLicensesNamesEveryModuleThatIsUsed(t *testing.T) {
	t.Parallel()
	want := "# Licences of what Belfry is built with\n\n" +
		"Belfry itself is under the Apache License 2.0 ([LICENSE](LICENSE)). A test makes and holds this page:\n" +
		"`UPDATE=1 go test -run Licenses .`\n\n" +
		"| module | licence | where |\n|---|---|---|\n"
	binary := slices.Concat(modulesOf(t, "linux", "./cmd/belfry"), modulesOf(t, "darwin", "./cmd/belfry"))
	tests := modulesOf(t, "linux", "-test", "./...")
	for _, module := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(binary, tests)))) {
		where := "tests"
		if slices.Contains(binary, module) {
			where = "binary"
		}
		path, dir, _ := strings.Cut(module, " ")
		want += fmt.Sprintf("| %s | %s | %s |\n", path, licence(t, dir), where)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("LICENSES.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("LICENSES.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("LICENSES.md is not what the modules say; make it with UPDATE=1 go test -run Licenses .\ngot\n%s\nwant\n%s", got, want)
	}
}

// modulesOf lists the modules that packages are built from for a system, each with
// its folder.
func modulesOf(t *testing.T, system string, packages ...string) []string {
	t.Helper()
	args := append([]string{"list", "-deps", "-f", `{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}`}, packages...)
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOOS="+system)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %v: %v\n%s", args, err, &stderr)
	}
	return slices.Compact(slices.Sorted(strings.Lines(strings.ReplaceAll(string(out), "\r", ""))))
}

func licence(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(dir), "LICEN[CS]E*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no licence file", dir)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	folded := strings.Join(strings.Fields(strings.ToLower(string(text))), " ")
	for _, mark := range marks {
		if strings.Contains(folded, mark.text) {
			return mark.licence
		}
	}
	t.Fatalf("%s is a licence that licenses_test.go does not know", files[0])
	return ""
}
