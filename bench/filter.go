package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// linesPerSecond builds belfry and has it answer 200 000 lines, its start included.
func linesPerSecond(format string, turns int) (float64, error) {
	dir, err := os.MkdirTemp("", "belfry-bench")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	belfry := filepath.Join(dir, "belfry")
	build := exec.Command("go", "build", "-o", belfry, "./cmd/belfry")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build belfry: %w\n%s", err, out)
	}

	const lines = 200000
	var in bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&in, format, expressions[i%len(expressions)])
	}
	fastest := 0.0
	for range turns {
		next := exec.Command(belfry, "next", "--json", "-n", "1", "--tz", zone, "-")
		next.Stdin = bytes.NewReader(in.Bytes())
		began := time.Now()
		out, err := next.Output()
		if err != nil {
			return 0, fmt.Errorf("belfry next: %w", err)
		}
		if got := bytes.Count(out, []byte(`"next"`)); got != lines {
			return 0, fmt.Errorf("belfry next answers %d of %d lines", got, lines)
		}
		fastest = max(fastest, lines/time.Since(began).Seconds())
	}
	return fastest, nil
}
