package remote

import (
	"context"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"belfry/internal/project"
)

// Binary is the belfry that a host gets.
type Binary struct {
	Path string `json:"path"`
	From string `json:"from"` // for people: where it was found
	Hash string `json:"hash"` // the name of its folder there: the beginning of its SHA-256
	Sum  string `json:"sha256"`
	Size int64  `json:"size"`
}

// module is what a belfry was built from, by what the compiler notes in it.
const module = "belfry"

// machines are the words of an executable's head.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// BinaryError says that there is no belfry for a host.
type BinaryError struct {
	Message string
	Hint    string
}

func (e *BinaryError) Error() string { return e.Message }

// FindBinary finds a belfry for a machine: the one that was given, this one, one
// beside it, or one that is built from the source here.
func FindBinary(ctx context.Context, given, arch, version string) (Binary, error) {
	if given != "" {
		return open(given, "given with --binary", arch)
	}
	self, err := os.Executable()
	if err != nil {
		return Binary{}, err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return Binary{}, err
	}
	if runtime.GOOS == "linux" && runtime.GOARCH == arch {
		return open(self, "this one", arch)
	}
	beside := filepath.Join(filepath.Dir(self), "belfry-linux-"+arch)
	if _, err := os.Stat(beside); err == nil {
		return open(beside, beside, arch)
	}
	if source := sourceNear(filepath.Dir(self)); source != "" {
		built, err := build(ctx, source, arch, version)
		if err != nil {
			return Binary{}, err
		}
		return open(built, "built from "+source, arch)
	}
	return Binary{}, &BinaryError{
		Message: fmt.Sprintf("the host is linux/%s, and this belfry is for %s/%s", arch, runtime.GOOS, runtime.GOARCH),
		Hint:    fmt.Sprintf("put the one for it at %s, or name it with --binary", beside),
	}
}

// open looks at an executable without executing it.
func open(path, from, arch string) (Binary, error) {
	next := fmt.Sprintf("name a belfry for linux/%s with --binary", arch)
	file, err := elf.Open(path)
	var format *elf.FormatError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Binary{}, &BinaryError{fmt.Sprintf("there is no file %s", path), "check the path"}
	case errors.As(err, &format), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // it is too short for one
		return Binary{}, &BinaryError{fmt.Sprintf("%s is not a program for Linux", path), next}
	case err != nil:
		return Binary{}, &BinaryError{fmt.Sprintf("read the binary: %v", err), next}
	}
	machine := file.Machine
	if err := file.Close(); err != nil {
		return Binary{}, err
	}
	if machine != machines[arch] {
		return Binary{}, &BinaryError{fmt.Sprintf("%s is for another machine (%s) than the host, which is linux/%s", path, machine, arch), next}
	}
	if info, err := buildinfo.ReadFile(path); err != nil || info.Main.Path != module {
		return Binary{}, &BinaryError{fmt.Sprintf("%s is no belfry", path), next}
	}
	b := Binary{Path: path, From: from}
	if b.Sum, b.Size, err = project.HashFile(path); err != nil {
		return b, fmt.Errorf("read the binary: %w", err)
	}
	b.Hash = b.Sum[:16]
	return b, nil
}

// sourceNear looks for belfry's own source around the executable.
func sourceNear(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		text, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module "+module+"\n") {
			return at
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

// build makes a belfry for a machine, in the user's cache.
func build(ctx context.Context, source, arch, version string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	out := filepath.Join(cache, "belfry", "belfry-linux-"+arch)
	cmd := exec.CommandContext(ctx, "go", "build", "-C", source, "-trimpath", "-ldflags", "-s -w -X belfry/internal/cli.Version="+version, "-o", out, "./cmd/belfry")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0") //nolint:forbidigo // the compiler's own settings
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", &BinaryError{fmt.Sprintf("building a belfry for linux/%s in %s: %v\n%s", arch, source, err, said), "name one with --binary"}
	}
	return out, nil
}
