package remote

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"belfry/internal/project"
	"belfry/internal/site"
)

// Progress is told how far a step has come, in bytes.
type Progress func(done, total int64)

// metered counts what is read.
type metered struct {
	r     io.Reader
	done  *int64
	total int64
	tell  Progress
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	*m.done += int64(n)
	if m.tell != nil {
		m.tell(*m.done, m.total)
	}
	return n, err
}

// receiveBinary puts what comes on standard input in a place of its own, compares
// it with what was meant and gives it its name. $1: the project; $2: the folder's
// name; $3: size; $4: SHA-256; $5: what computes that; $6: what unpacks.
const receiveBinary = `set -e
umask 077
mkdir -p "$HOME/belfry/$1"
: >>"$HOME/belfry/$1/` + site.LockName + `" # by which a removal knows the folder
bin=$HOME/belfry/$1/` + site.BinariesName + `
mkdir -p "$bin"
new=$bin/.$2.$$
trap 'rm -rf "$new"' EXIT
mkdir "$new"
$6 >"$new/belfry"
size=$(($(wc -c <"$new/belfry")))
[ "$size" = "$3" ] || { echo "of the belfry that was sent $size bytes arrived, not $3" >&2; exit 1; }
case $5 in
sha256sum) sum=$(sha256sum <"$new/belfry") ;;
shasum) sum=$(shasum -a 256 <"$new/belfry") ;;
openssl) sum=$(openssl dgst -sha256 -r <"$new/belfry") ;;
esac
[ "${sum%% *}" = "$4" ] || { echo "the belfry that was sent arrived with another SHA-256" >&2; exit 1; }
chmod 755 "$new/belfry"
[ -x "$new/belfry" ] || { echo "$HOME is mounted so that nothing in it can be executed (noexec)" >&2; exit 1; }
sync # before it gets its name: one that is there is never sent again
"$new/belfry" --version >/dev/null || { echo "the host cannot run it" >&2; exit 1; }
mkdir -p "$bin/$2"
[ -x "$bin/$2/belfry" ] || mv -f "$new/belfry" "$bin/$2/belfry"`

// sendBinary puts a belfry on the host.
func (h *Host) sendBinary(ctx context.Context, projectName string, f Facts, b Binary, tell Progress) error {
	file, err := os.Open(b.Path)
	if err != nil {
		return fmt.Errorf("send belfry: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	var done int64
	source := &metered{file, &done, b.Size, tell}
	unpack := "cat"
	if f.Gzip {
		unpack = "gzip -dc"
	}
	_, err = h.send(ctx, receiveBinary, []string{projectName, b.Hash, fmt.Sprint(b.Size), b.Sum, f.Hash, unpack}, func(w io.Writer) error {
		if !f.Gzip {
			_, err := io.Copy(w, source)
			return err
		}
		return packed(w, func(w io.Writer) error { _, err := io.Copy(w, source); return err })
	})
	if err != nil {
		return fmt.Errorf("send belfry: %w", err)
	}
	return nil
}

// packed compresses what is written. Speed counts: the slowest part is the wire.
func packed(w io.Writer, write func(io.Writer) error) error {
	// The compressor writes a few hundred bytes at a time, and each write is a packet.
	whole := bufio.NewWriterSize(w, 32<<10)
	z, err := gzip.NewWriterLevel(whole, gzip.BestSpeed)
	if err != nil {
		return err
	}
	return errors.Join(write(z), z.Close(), whole.Flush())
}

// sendFiles sends the files of a release that the host lacks, and has it made
// there. It gives how many were sent, and their bytes.
func (h *Host) sendFiles(ctx context.Context, p *project.Project, r project.Release, binary string, tell Progress) (files int, bytes int64, err error) {
	var lacks []string
	if err := h.site(ctx, p.Name, binary, "lacks", r, &lacks); err != nil {
		return 0, 0, err
	}
	lacking := map[string]bool{}
	for _, sum := range lacks {
		lacking[sum] = true
	}
	var wanted []project.ReleaseFile
	for _, f := range r.Files {
		if lacking[f.SHA256] {
			delete(lacking, f.SHA256) // equal files are sent once
			wanted = append(wanted, f)
			bytes += f.Size
		}
	}
	if len(wanted) > 0 {
		var done int64
		_, err := h.send(ctx, siteScript+` receive "$1" "$3"`, []string{h.root(p.Name), binary, h.deploy}, func(w io.Writer) error {
			return packed(w, func(w io.Writer) error {
				for _, f := range wanted {
					if err := sendFile(w, filepath.Join(p.Dir, f.Path), f, func(file io.Reader) io.Reader { return &metered{file, &done, bytes, tell} }); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return 0, 0, h.siteError(p.Name, "receive", err)
		}
	}
	return len(wanted), bytes, h.site(ctx, p.Name, binary, "unpack", r, nil)
}

func sendFile(w io.Writer, name string, f project.ReleaseFile, through func(io.Reader) io.Reader) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	head, err := json.Marshal(site.Sent{SHA256: f.SHA256, Size: f.Size})
	if err != nil {
		return err
	}
	if _, err := w.Write(append(head, '\n')); err != nil {
		return err
	}
	if n, err := io.CopyN(w, through(file), f.Size); err != nil {
		return fmt.Errorf("%s has changed while it was sent: %d bytes are left of %d: %w", f.Path, n, f.Size, err)
	}
	return nil
}

// root is a project's folder on the host, relative to the home.
func (h *Host) root(projectName string) string { return path.Join("belfry", projectName) }

// siteScript executes a belfry of a site. $1: the site, relative to the home; $2:
// the hash of the binary, or nothing for the one that runs.
const siteScript = `cd "$HOME" || exit
belfry=$1/bin/$2/belfry
[ -n "$2" ] || belfry=$1/belfry
exec "$belfry" internal-site`

// site has the belfry on the host do something to the project's site.
func (h *Host) site(ctx context.Context, projectName, binary, action string, request, answer any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ofDeploy := ""
	if binary != "" { // the one that runs may be older than that there are any
		ofDeploy = h.deploy
	}
	// Not as a here-document, which a shell may write into a file.
	out, err := h.send(ctx, siteScript+" "+action+` "$1" ${3:+"$3"}`, []string{h.root(projectName), binary, ofDeploy}, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return h.siteError(projectName, action, err)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(out), answer); err != nil {
		return fmt.Errorf("the belfry on the host answered %q to %s", out[:min(len(out), 1000)], action)
	}
	return nil
}

var actions = map[string]string{
	"hold": "keep other deploys waiting", "lacks": "compare the release with what the host has", "receive": "send the release", "unpack": "make the release", "switch": "switch to the release",
	"rollback": "go back to the release before", "remove": "remove the project", "status": "look at the project", "profile": "write the AWS profile", "key": "write the key of the secrets", "python": "make the Python environments",
}

func (h *Host) siteError(projectName, action string, err error) error {
	var exit *ExitError
	if errors.As(err, &exit) {
		if exit.Code == 127 { // the shell found no belfry to execute
			return fmt.Errorf("%s on %s: %w", projectName, h.Name(), ErrNotDeployed)
		}
		said, _, _ := strings.Cut(exit.Said, "\n  ") // the hint is for somebody on the host
		err = &ExitError{exit.Code, strings.TrimPrefix(said, "belfry: ")}
	}
	return fmt.Errorf("%s: %w", actions[action], err)
}
