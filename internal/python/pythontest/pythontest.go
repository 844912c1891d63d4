// Package pythontest has packages and an index of them for tests: PyPI is not to
// be asked by any. Only tests import it.
package pythontest

import (
	"archive/zip"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
)

// Wheel makes a package with one module and one program, which say its version.
func Wheel(t testing.TB, name, version string) (file string, content []byte) {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	info := name + "-" + version + ".dist-info/"
	var record strings.Builder
	for _, f := range [][2]string{
		{name + ".py", fmt.Sprintf("VERSION = %q\n\ndef main():\n    print(%q)\n", version, name+" "+version)},
		{info + "METADATA", "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: belfry\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "entry_points.txt", "[console_scripts]\n" + name + " = " + name + ":main\n"},
	} {
		fmt.Fprintf(&record, "%s,,\n", f[0])
		part, err := w.Create(f[0])
		if err == nil {
			_, err = part.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.Create(info + "RECORD")
	if err == nil {
		_, err = part.Write([]byte(record.String() + info + "RECORD,,\n"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s-%s-py3-none-any.whl", name, version), buf.Bytes()
}

// Index is a package index (PEP 503) in place of PyPI. It has tiny 1.0 and 2.0.
type Index struct {
	URL string

	mu     sync.Mutex
	wheels map[string][]byte        // guarded by mu; by file name
	asked  map[string]int           // guarded by mu; by the last part of the path
	hold   map[string]chan struct{} // guarded by mu
}

// New starts one, which ends with the test.
func New(t testing.TB) *Index {
	t.Helper()
	x := &Index{wheels: map[string][]byte{}, asked: map[string]int{}, hold: map[string]chan struct{}{}}
	server := httptest.NewServer(x)
	t.Cleanup(server.Close)
	t.Cleanup(x.Release)
	x.URL = server.URL + "/simple/"
	for _, version := range []string{"1.0", "2.0"} {
		file, content := Wheel(t, "tiny", version)
		x.wheels[file] = content
	}
	return x
}

// Hold makes the index keep who asks for a name waiting until Release.
func (x *Index) Hold(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hold[name] = make(chan struct{})
}

// Release lets all of them go on.
func (x *Index) Release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, ch := range x.hold {
		close(ch)
		delete(x.hold, name)
	}
}

// Asked gives how often a name was asked for: a package or a file.
func (x *Index) Asked(name string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked[name]
}

func (x *Index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	x.mu.Lock()
	x.asked[name]++
	hold, content := x.hold[name], x.wheels[name]
	var links strings.Builder
	for file := range x.wheels {
		if strings.HasPrefix(file, name+"-") {
			fmt.Fprintf(&links, "<a href=\"/files/%s\">%s</a>\n", file, file)
		}
	}
	x.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case content != nil:
		_, _ = w.Write(content)
	case links.Len() > 0:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<!DOCTYPE html><html><body>%s</body></html>", links.String())
	default:
		http.NotFound(w, r)
	}
}
