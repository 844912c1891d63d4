//go:build !linux || portable

package project

import "golang.org/x/text/unicode/norm"

// shipped is the name that a file has in a release. macOS takes a name with composed
// letters, as keyboards write them, and one with letters in parts, as Finder and
// HFS+ do (수집.py in six parts), for the same, and lists it as it was made. To
// Linux they are two, so the host gets what people write in belfry.yaml and in
// scripts, and .gitignore is held against that, as git does (core.precomposeUnicode).
func shipped(name string) string { return norm.NFC.String(name) }
