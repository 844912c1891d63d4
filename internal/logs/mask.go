package logs

import (
	"bytes"
	"slices"

	"belfry/internal/secrets"
)

// Masker hides secrets in what a job prints. Each byte that belongs to one
// becomes a '*': the text keeps its length, so that offsets in it stay those of
// the file. A nil Masker hides nothing.
//
// It holds no state between two reads. A secret that is cut between them is
// seen because each read begins Context bytes early, and because the end of a
// text that may be the beginning of a secret waits until more is there.
//
// The search is Wu and Manber's: a window as long as the shortest secret moves
// over the text and looks at its last two bytes; most pairs occur in no secret
// and move it by nearly its length. So it does not matter how many secrets
// there are.
type Masker struct {
	secrets [][]byte
	longest int
	window  int
	shift   [1 << 12]uint8      // by the hash of a pair: how far the window may move
	ending  map[uint16][][]byte // secrets whose window ends in a pair of this hash
	first   [256]bool           // bytes that secrets begin with
}

// piece is how much of a long value is hidden as one: it bounds Context. The
// pieces of a longer one are hidden each by itself.
const piece = 4 << 10

// NewMasker gives a Masker for the values, and nil when there is nothing to hide.
func NewMasker(values []string) *Masker {
	m := &Masker{ending: map[uint16][][]byte{}}
	for _, text := range secrets.Texts(values) {
		for len(text) > piece {
			m.secrets = append(m.secrets, []byte(text[:piece]))
			text = text[piece-secrets.Shortest:] // so that the last one is not too short
		}
		m.secrets = append(m.secrets, []byte(text))
	}
	slices.SortFunc(m.secrets, bytes.Compare)
	m.secrets = slices.CompactFunc(m.secrets, bytes.Equal)
	if len(m.secrets) == 0 {
		return nil
	}
	m.window = 255
	for _, s := range m.secrets {
		m.longest, m.window = max(m.longest, len(s)), min(m.window, len(s))
		m.first[s[0]] = true
	}
	for i := range m.shift {
		m.shift[i] = uint8(m.window - 1)
	}
	for _, s := range m.secrets {
		for end := 1; end < m.window; end++ {
			h := hash(s[end-1], s[end])
			m.shift[h] = min(m.shift[h], uint8(m.window-1-end))
		}
		h := hash(s[m.window-2], s[m.window-1])
		m.ending[h] = append(m.ending[h], s)
	}
	return m
}

func hash(a, b byte) uint16 { return uint16(a)<<4 ^ uint16(b) }

// Context is how many bytes before a text Mask must be given with it.
func (m *Masker) Context() int {
	if m == nil {
		return 0
	}
	return m.longest - 1
}

// Mask hides the secrets in text, in place, and gives up to where it is sure:
// what stands behind may be the beginning of a secret. With final nothing more
// comes, and it is sure of all.
func (m *Masker) Mask(text []byte, final bool) (sure int) {
	if m == nil {
		return len(text)
	}
	sure = len(text)
	if !final {
		sure = m.begun(text)
	}
	for _, hit := range m.hits(text) {
		star(text[hit[0]:hit[1]])
	}
	return sure
}

// maskCut is Mask for a text that stands behind a hole, or before one, or both: what
// is left there of a secret that the hole has cut is hidden too, and it is sure
// of nothing as long as the text may be the middle of one. A few bytes may be
// hidden that only look like it.
func (m *Masker) maskCut(text []byte, final, behind, before bool) (sure int) {
	if m == nil {
		return len(text)
	}
	head, tail := 0, len(text)
	if behind {
		var more bool
		if head, more = m.rest(text); more && !final {
			return 0
		} else if more {
			head = len(text)
		}
	}
	if before {
		tail = m.begun(text)
	}
	sure = m.Mask(text, final)
	star(text[:head])
	star(text[tail:])
	return sure
}

func star(text []byte) {
	for i := range text {
		text[i] = '*'
	}
}

// rest gives how long the longest beginning of text is that a secret ends with.
// more says that all of the text stands within one, of which more may come.
func (m *Masker) rest(text []byte) (n int, more bool) {
	for _, s := range m.secrets {
		for k := min(len(s)-1, len(text)); k > n; k-- {
			if bytes.HasSuffix(s, text[:k]) {
				n = k
			}
		}
		more = more || bytes.Contains(s[1:len(s)-1], text)
	}
	return n, more
}

// hits finds where secrets stand, as ranges that do not touch each other.
func (m *Masker) hits(text []byte) (hits [][2]int) {
	for end := m.window - 1; end < len(text); {
		h := hash(text[end-1], text[end])
		if move := m.shift[h]; move > 0 {
			end += int(move)
			continue
		}
		from := end - m.window + 1
		for _, s := range m.ending[h] {
			if !bytes.HasPrefix(text[from:], s) {
				continue
			}
			if n := len(hits); n > 0 && from <= hits[n-1][1] {
				hits[n-1][1] = max(hits[n-1][1], from+len(s))
			} else {
				hits = append(hits, [2]int{from, from + len(s)})
			}
		}
		end++
	}
	return hits
}

// begun gives where the longest end of text stands that a secret begins with.
func (m *Masker) begun(text []byte) int {
	for at := max(0, len(text)-m.longest+1); at < len(text); at++ {
		if !m.first[text[at]] {
			continue
		}
		for _, s := range m.secrets {
			if len(s) > len(text)-at && bytes.HasPrefix(s, text[at:]) {
				return at
			}
		}
	}
	return len(text)
}
