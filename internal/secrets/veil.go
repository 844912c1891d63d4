package secrets

import (
	"cmp"
	"slices"
	"strings"
)

// Shortest is the least length in bytes of a text that is starred: less would
// star ordinary text.
const Shortest = 6

// Texts gives what is starred where values are secret: each of them that is not
// too short, and each such line of one that has several: of a key in PEM, say,
// one may be shown alone.
func Texts(values []string) []string {
	var texts []string
	for _, value := range values {
		texts = append(texts, value)
		if strings.Contains(value, "\n") {
			for line := range strings.SplitSeq(value, "\n") {
				texts = append(texts, strings.TrimSuffix(line, "\r"))
			}
		}
	}
	return slices.DeleteFunc(texts, func(text string) bool { return len(text) < Shortest })
}

// Veil gives a function that stars values in a text that is to be written down.
func Veil(values []string) func(text string) string {
	texts := Texts(values)
	slices.SortFunc(texts, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // one may begin another
	var pairs []string
	for _, text := range texts {
		pairs = append(pairs, text, "***")
	}
	return strings.NewReplacer(pairs...).Replace
}
