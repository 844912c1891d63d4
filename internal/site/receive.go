package site

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Sent is what stands before each file that is sent, on a line of its own.
type Sent struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Receive takes files that are sent, compressed, one behind the other. Each is
// compared with its size and its hash and only then gets its name; those that were
// whole when the connection was cut are not sent again. It ends when nothing has come
// for Silence: another deploy's steps wait for it.
func (s *Site) Receive(ctx context.Context, from io.Reader) error {
	sent := heard(from)
	defer sent.Close() //nolint:errcheck // nothing else is expected
	return s.locked(ctx, func() error {
		if err := os.MkdirAll(s.path(IncomingName), 0o700); err != nil {
			return fmt.Errorf("take what is sent: %w", err)
		}
		plain, err := gzip.NewReader(sent)
		if err != nil {
			return fmt.Errorf("take what is sent: %w", err)
		}
		files := bufio.NewReaderSize(plain, 64<<10)
		for {
			head, err := files.ReadBytes('\n')
			if errors.Is(err, io.EOF) && len(head) == 0 {
				return nil
			}
			var file Sent
			if err == nil {
				err = json.Unmarshal(head, &file)
			}
			if err == nil {
				err = s.take(files, file)
			}
			if err != nil {
				return fmt.Errorf("take what is sent: %w", err)
			}
		}
	})
}

func (s *Site) take(from io.Reader, sent Sent) (err error) {
	if name, err := hex.DecodeString(sent.SHA256); err != nil || len(name) != sha256.Size {
		return fmt.Errorf("%q is no hash", sent.SHA256)
	}
	part := s.path(IncomingName, "part")
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.CopyN(io.MultiWriter(file, h), from, sent.Size)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if sum := hex.EncodeToString(h.Sum(nil)); sum != sent.SHA256 {
		return errors.Join(fmt.Errorf("a file of %d bytes arrived with another SHA-256 than it was sent with; did it change meanwhile?", n), os.Remove(part))
	}
	return os.Rename(part, s.path(IncomingName, sent.SHA256))
}
