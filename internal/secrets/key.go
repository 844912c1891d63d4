package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"filippo.io/age"
)

// KeyPath is where the key of a user with this home is, unless they say
// otherwise.
func KeyPath(home string) string { return filepath.Join(home, ".config", "belfry", "key.txt") }

// readKey reads the key, as age-keygen writes it.
func readKey(path string) ([]age.Identity, error) {
	text, err := ReadPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("the key of the secrets: %w", err)
	}
	keys, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil { // its text may tell a part of the key
		return nil, fmt.Errorf("there is no key in %s: a line AGE-SECRET-KEY-1… is missing or damaged; put back a copy of it", path)
	}
	return keys, nil
}

// makeKey makes a key where there is none. It never touches one that is there:
// what was encrypted with it would be lost.
func makeKey(path string) (made bool, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return false, nil // there it is, or reading it tells
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return false, fmt.Errorf("make a key for the secrets: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, fmt.Errorf("make a key for the secrets: %w", err)
	}
	text := fmt.Sprintf("# The key of Belfry's secrets. Whoever has it can read them; without it nobody can.\n# public key: %s\n%s\n", key.Recipient(), key)
	temp, err := writeBeside(path, []byte(text), 0o600)
	if err != nil {
		return false, fmt.Errorf("make a key for the secrets: %w", err)
	}
	err = os.Link(temp, path) // unlike a rename, it takes nobody's place
	made = err == nil
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err := errors.Join(err, os.Remove(temp), syncFolder(filepath.Dir(path))); err != nil {
		return made, fmt.Errorf("make a key for the secrets: %w", err)
	}
	return made, nil
}
