package publish

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"time"
)

// The names that Belfry puts at a target itself.
const (
	manifestName = "_manifest.json"
	successName  = "_SUCCESS"
	pendingName  = "_pending.json" // on S3 alone
)

// maxManifest bounds the manifests that we read; ten million short names fit.
const maxManifest = 1 << 30

// Manifest is the content of _manifest.json: the list that makes files count.
type Manifest struct {
	Job     string  `json:"job"`
	Run     string  `json:"run"`
	Attempt int     `json:"attempt"`
	Began   string  `json:"started_at,omitempty"` // of the attempt, as FiresAt
	FiresAt string  `json:"fires_at"`             // RFC 3339 in UTC; "" for none
	Date    string  `json:"date"`
	Release string  `json:"release"`
	Files   []Entry `json:"files"` // sorted by path
}

// Entry is one file of a manifest.
type Entry struct {
	Path   string `json:"path"` // relative to the manifest, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex
}

// manifestOf is the manifest of a set of files, which are sorted. The same order
// and the same files make the same bytes.
func manifestOf(o Order, files []Entry) ([]byte, error) {
	m := Manifest{Job: o.Job, Run: o.Run, Attempt: o.Attempt, Date: o.Date, Release: o.Release, Files: files}
	m.Began, m.FiresAt = written(o.Began), written(o.FiresAt)
	return encode(m)
}

func written(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// began is when the attempt began whose set it is; zero when it does not say.
func (m *Manifest) began() time.Time {
	t, _ := time.Parse(time.RFC3339Nano, m.Began)
	return t
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// parseManifest reads a manifest that stands at a target. Paths that would lead
// elsewhere, or name Belfry's own files, are an error: what it lists is deleted.
func parseManifest(data []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if err := checkPath(f.Path); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

func checkPath(path string) error {
	if !fs.ValidPath(path) || path == "." || reserved(path) {
		return fmt.Errorf("it lists %q, which cannot be a file of the target", path)
	}
	return nil
}

// reserved reports whether path, relative to a target, is one of Belfry's own.
func reserved(path string) bool {
	return path == successName || path == manifestName || path == pendingName
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
