package remote

import (
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQuotedWordsReachAShellAsTheyAre(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("ab '\"$()`\\\n\t;&|<>*?[]{}~#!%-=é아")), 0, 12, -1), 1, 4).Draw(t, "words")
		var quoted []string
		for _, word := range words {
			quoted = append(quoted, Quote(word))
		}
		out, err := exec.Command("sh", "-c", "printf '%s\\0' "+strings.Join(quoted, " ")).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(out), strings.Join(words, "\x00")+"\x00"; got != want {
			t.Fatalf("%q came as %q", words, got)
		}
	})
}
