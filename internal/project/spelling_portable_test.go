//go:build !linux || portable

package project

import (
	"slices"
	"testing"

	"golang.org/x/text/unicode/norm"
)

func TestNamesAreShippedAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"수집.py", "café.csv", "が.txt", "plain", "not\xffutf8"} {
		if got := shipped(norm.NFD.String(name)); got != name {
			t.Errorf("%+q is shipped as %+q", name, got)
		}
	}
	// As Finder names them; who reads them here by the other name needs a disk of a Mac.
	p := folder(t, "belfry.yaml", "jobs:\n  a: {command: x}\n", norm.NFD.String("비밀.txt"), "secret", norm.NFD.String("결과")+"/x", "", ".gitignore", "비밀.txt\n결과/\n")
	if got, want := paths(release(t, p)), []string{".gitignore", "belfry.yaml"}; !slices.Equal(got, want) {
		t.Errorf("the release has %q, want %q", got, want)
	}
}
