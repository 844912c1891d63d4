//go:build !linux || portable

package publish

// What belfry does without what only Linux has (kernel_linux.go): on macOS, and
// on Linux where it is tested by go test -tags portable.

func openBeneath(root int, rel string, flags int) (int, error) {
	return walkBeneath(root, rel, flags)
}
