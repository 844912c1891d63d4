//go:build !portable

package project

// shipped is the name that a file has in a release: its own.
func shipped(name string) string { return name }
