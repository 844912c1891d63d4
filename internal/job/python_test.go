package job

import (
	"strings"
	"testing"
)

func TestVersionsAreComparedAsPEP440Does(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		condition string
		version   [3]int
		want      bool
		why       string
	}{
		{"", [3]int{3, 6, 0}, true, "no condition"},
		{">=3.9", [3]int{3, 9, 0}, true, ""},
		{">=3.9", [3]int{3, 10, 1}, true, "numbers, not text"},
		{">=3.9", [3]int{3, 8, 18}, false, ""},
		{">3.9", [3]int{3, 9, 1}, true, "3.9 is 3.9.0"},
		{"<=3.9", [3]int{3, 9, 1}, false, "3.9 is 3.9.0"},
		{"<3.13", [3]int{3, 12, 99}, true, ""},
		{">=3.9,<3.13", [3]int{3, 13, 0}, false, "both must hold"},
		{" >= 3.9 , < 3.13 ", [3]int{3, 11, 0}, true, "blanks"},
		{"3.11", [3]int{3, 11, 7}, true, "a bare version is any of it"},
		{"3.11", [3]int{3, 1, 1}, false, ""},
		{"3.11.7", [3]int{3, 11, 8}, false, ""},
		{"==3.11.*", [3]int{3, 11, 7}, true, ""},
		{"==3.11.7", [3]int{3, 11, 7}, true, ""},
		{"!=3.10.*", [3]int{3, 10, 0}, false, ""},
		{"!=3.10.*", [3]int{3, 11, 0}, true, ""},
		{"!=3.10", [3]int{3, 10, 1}, true, "3.10 is 3.10.0"},
		{"~=3.9", [3]int{3, 12, 0}, true, "at least 3.9, and a 3"},
		{"~=3.9", [3]int{4, 0, 0}, false, "at least 3.9, and a 3"},
		{"~=3.9.2", [3]int{3, 9, 1}, false, "at least 3.9.2, and a 3.9"},
		{"~=3.9.2", [3]int{3, 9, 7}, true, "at least 3.9.2, and a 3.9"},
		{"~=3.9.2", [3]int{3, 10, 7}, false, "at least 3.9.2, and a 3.9"},
	} {
		condition, err := Versions(""), error(nil)
		if c.condition != "" {
			condition, err = ParseVersions(c.condition)
		}
		if err != nil {
			t.Errorf("%q: %v", c.condition, err)
		} else if got := condition.Allow(c.version); got != c.want {
			t.Errorf("%q allows %v: %t, want %t (%s)", c.condition, c.version, got, c.want, c.why)
		}
	}
}

func TestAConditionThatNobodyCanMeanIsAnError(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":          `"" is not a version of Python; write 3.11, ">=3.9" or ">=3.9,<3.13"`,
		">=3.9,":    `"" is not a version of Python`,
		"latest":    `"latest" is not a version`,
		"=>3.9":     `"=>3.9" is not a version`,
		">=3.9rc1":  `">=3.9rc1" is not a version`,
		"3.9.1.2":   `"3.9.1.2" is not a version`,
		">=3.9.*":   `">=3.9.*": .* goes with == and != alone`,
		"~=3":       `"~=3": ~= takes a version of two or three numbers`,
		"==3.11":    `"==3.11" is Python 3.11.0 alone; for any 3.11 write "3.11"`,
		">3, ==3.9": `"==3.9" is Python 3.9.0 alone`,
	} {
		if _, err := ParseVersions(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", text, err, want)
		}
	}
}
