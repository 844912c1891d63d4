package store

import (
	"testing"

	"belfry/internal/machine"
)

func smallDisk(t *testing.T, _ string) string {
	machine.Lacks(t, "a way to mount a small disk")
	return ""
}
