package secrets

import (
	"cmp"
	"slices"
	"strings"
)

// Shortest is the least length in bytes of a value that is starred: less would
// star ordinary text.
const Shortest = 6

// Veil gives a function that stars values in a text that is to be written down.
func Veil(values []string) func(text string) string {
	values = slices.DeleteFunc(slices.Clone(values), func(value string) bool { return len(value) < Shortest })
	slices.SortFunc(values, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // one may begin another
	var pairs []string
	for _, value := range values {
		pairs = append(pairs, value, "***")
	}
	return strings.NewReplacer(pairs...).Replace
}
