package logs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"belfry/internal/secrets"
)

// plainly is what a Masker must do, in the plainest way.
func plainly(text string, values []string) string {
	masked := []byte(text)
	for _, s := range values {
		if len(s) < secrets.Shortest {
			continue
		}
		for at := 0; at+len(s) <= len(text); at++ {
			if text[at:at+len(s)] == s {
				copy(masked[at:], strings.Repeat("*", len(s)))
			}
		}
	}
	return string(masked)
}

// cut masks a text that comes in pieces, as a reader does it: each time from
// Context bytes before what it is sure of.
func cut(m *Masker, text string, cuts func(at int) int) string {
	var out []byte
	for have := 0; len(out) < len(text); {
		have = min(len(text), max(have, len(out))+cuts(len(out)))
		from := max(0, len(out)-m.Context())
		part := []byte(text[from:have])
		if sure := m.Mask(part, have == len(text)); from+sure > len(out) {
			out = append(out, part[len(out)-from:sure]...)
		}
	}
	return string(out)
}

func TestSecretsAreHiddenAndLengthsStay(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef", 1000)
	for _, c := range []struct {
		why     string
		secrets []string
		text    string
		want    string
	}{
		{"none", nil, "hunter22", "hunter22"},
		{"too short to be one", []string{"short", ""}, "short", "short"},
		{"in the middle", []string{"hunter22"}, "pw=hunter22;", "pw=********;"},
		{"twice in a row", []string{"hunter22"}, "hunter22hunter22", "****************"},
		{"one within the other", []string{"hunter22", "hunter22-long"}, "hunter22-lon hunter22-long", "********-lon *************"},
		{"overlapping", []string{"abcdefgh", "ghijklmn"}, "abcdefghijklmn", "**************"},
		{"overlapping itself", []string{"aaaaaa"}, "xaaaaaaaax", "x********x"},
		{"not UTF-8", []string{"\xff\xfe\x00\x01\x02\x03"}, "a\xff\xfe\x00\x01\x02\x03b", "a******b"},
		{"a line of a long one", []string{"-----BEGIN\r\nMIIEvQ\nend"}, "key MIIEvQ ", "key ****** "},
		{"longer than one piece", []string{long}, "<" + long + ">", "<" + strings.Repeat("*", len(long)) + ">"},
	} {
		m := NewMasker(c.secrets)
		got := []byte(c.text)
		if sure := m.Mask(got, true); string(got) != c.want || sure != len(got) {
			t.Errorf("%s: %.60q becomes %.60q, sure of %d, want %.60q", c.why, c.text, got, sure, c.want)
		}
	}
}

func TestTheBeginningOfASecretWaitsForItsEnd(t *testing.T) {
	t.Parallel()
	m := NewMasker([]string{"hunter22", "terminal"})
	for text, want := range map[string]int{"": 0, "password: ": 10, "password: h": 10, "hunter": 0, "hunter2": 0, "hunter22": 8, "a hun": 2, "hunt hunt": 5, "hunterm": 3} {
		if sure := m.Mask([]byte(text), false); sure != want {
			t.Errorf("%q: sure of %d bytes, want %d", text, sure, want)
		}
	}
}

func TestWhatAHoleHasLeftOfASecretIsHidden(t *testing.T) {
	t.Parallel()
	m := NewMasker([]string{"hunter22", "terminal", "tree-top-tree"})
	for _, c := range []struct {
		text                  string
		final, behind, before bool
		want                  string
		sure                  int
	}{
		{"er22 hunter22 hunt", true, true, true, "**** ******** ****", 18},
		{"er22 hunter22 hunt", true, true, false, "**** ******** hunt", 18},
		{"er22 hunter22 hunt", true, false, true, "er22 ******** ****", 18},
		{"er22 hunt", false, true, false, "**** hunt", 5},
		{"tree-top-tree", true, true, true, "*************", 13},
		{"-tree tree-t", true, true, true, "***** ******", 12},
		{"ree-top-", true, true, false, "********", 8},
		{"unter", false, true, false, "unter", 0},
		{"unter", true, true, false, "*****", 5},
		{"unter2 ", false, true, false, "unter2 ", 7},
		{"plain", true, true, true, "plain", 5},
	} {
		text := []byte(c.text)
		if sure := m.maskCut(text, c.final, c.behind, c.before); string(text) != c.want || sure != c.sure {
			t.Errorf("%q (final %v, behind a hole %v, before one %v) becomes %q, sure of %d, want %q, %d", c.text, c.final, c.behind, c.before, text, sure, c.want, c.sure)
		}
	}
	var none *Masker
	if sure := none.maskCut([]byte("text"), false, true, true); sure != 4 {
		t.Errorf("without secrets it is sure of %d bytes, want 4", sure)
	}
}

// However a text is cut into reads, it is masked as it would be whole.
func FuzzMask(f *testing.F) {
	f.Add("pw=hunter22;hunter2", "hunter22", "ter22;", uint64(1))
	f.Add("abcdefghijklmn", "abcdefgh", "ghijklmn", uint64(2))
	f.Add(strings.Repeat("a", 40), "aaaaaa", "aaaaaaaa", uint64(3))
	f.Fuzz(func(t *testing.T, text, a, b string, seed uint64) {
		if strings.Contains(a+b, "\n") || len(a) > 100 || len(b) > 100 || len(text) > 2000 {
			return
		}
		m := NewMasker([]string{a, b})
		want := plainly(text, []string{a, b})
		chance := rand.New(rand.NewPCG(seed, 0))
		got := cut(m, text, func(int) int { return 1 + chance.IntN(9) })
		if got != want {
			t.Errorf("%q without %q and %q: in pieces %q, want %q", text, a, b, got, want)
		}
		whole := []byte(text)
		if m.Mask(whole, true); string(whole) != want {
			t.Errorf("%q without %q and %q: %q, want %q", text, a, b, whole, want)
		}
	})
}

func BenchmarkMask(b *testing.B) {
	line := "2026-07-09 16:00:01 INFO fetch https://api.example.com/v1/artists/4Z8W4fKeB5YxbusRsdQVPb/top-tracks 200 in 134 ms\n"
	for _, n := range []int{0, 1, 5, 200} {
		var secrets []string
		for i := range n {
			secrets = append(secrets, fmt.Sprintf("s3cr3t-%d-%x", i, i*7919))
		}
		m := NewMasker(secrets)
		for name, text := range map[string]string{"log": line, "yes": "y\n"} {
			text := bytes.Repeat([]byte(text), chunkSize/len(text))
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					m.Mask(text, false)
				}
			})
		}
	}
}
