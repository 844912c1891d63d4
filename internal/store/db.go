package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Backup copies the database to path, which must not exist, while it is being
// read and written. The copy is whole or not there.
func (s *Store) Backup(ctx context.Context, path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("back up the store: %s is there already: choose another name, or remove it first", path)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0700: nobody reads it half written
	if err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // empty, or what could not be completed
	part := filepath.Join(dir, "part")
	if err := s.copyTo(ctx, part); err != nil {
		return fmt.Errorf("back up the store to %s: %w", path, err)
	}
	// To link and not to rename: it never replaces what has come there meanwhile.
	if err := os.Link(part, path); err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	return syncFile(filepath.Dir(path))
}

func (s *Store) copyTo(ctx context.Context, path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil { // SQLite takes an empty file
		return err
	}
	if _, err := s.read.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
		var full *UnavailableError
		if errors.As(err, &full) {
			return explain(path, errors.Unwrap(err)) // it is the copy's disk, not ours
		}
		return err
	}
	return syncFile(path)
}

// syncFile makes a file or a folder durable. It is none of the files that are
// open as databases.
func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// Vacuum rebuilds the database without the room that removed rows have left.
// Changes wait until it is done.
func (s *Store) Vacuum(ctx context.Context) error {
	if s.write == nil {
		return errors.New("vacuum the store: it is open for reading only")
	}
	err := s.write.alone(ctx, func(conn *prepared) error {
		for _, statement := range []string{"VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"} {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("vacuum the store: %w", err)
	}
	return nil
}

// rules are what must be true of the rows beyond what constraints hold: each
// query gives the ids of rows that break it.
var rules = []struct{ query, sentence string }{
	{
		`SELECT id FROM run WHERE state = 'running' AND NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.run = run.id AND attempt.number = run.attempt AND attempt.ended_at IS NULL)`,
		"run %s is running, but its attempt is not",
	},
	{
		`SELECT id FROM run WHERE state = 'publishing' AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.run = run.id AND outbox.kind = 'publish'
			AND (outbox.state = 'pending' OR outbox.state = 'sending'))`,
		"run %s is publishing, but nothing is to be published",
	},
	{
		`SELECT id FROM run WHERE ended_at IS NULL AND state <> 'queued' AND state <> 'running' AND state <> 'publishing'`,
		"run %s has ended, but not when",
	},
	{
		`SELECT run.id FROM run JOIN attempt ON attempt.run = run.id WHERE attempt.ended_at IS NULL AND (run.state <> 'running' OR attempt.number <> run.attempt)`,
		"run %s has an attempt that never ended",
	},
	{
		`SELECT run.id FROM run JOIN attempt ON attempt.run = run.id GROUP BY run.id HAVING MAX(attempt.token) > MAX(run.token)`,
		"an attempt of run %s has a newer token than the run",
	},
	{
		`SELECT item FROM target WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.id = target.item AND outbox.state = 'sending')`,
		"a target is taken by item %s, which is not being sent",
	},
	{
		`SELECT hash FROM definition WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.definition = definition.hash)
			AND NOT EXISTS (SELECT 1 FROM job WHERE job.definition = definition.hash)`,
		"definition %.12s belongs to no job and no run; it does no harm",
	},
}

// findings is how many of one kind Check tells.
const findings = 20

// Check looks whether the database is whole and its rows agree with each
// other. Each finding is a sentence; none means that all is well.
func (s *Store) Check(ctx context.Context) ([]string, error) {
	var found []string
	pages, err := list(ctx, s.read, value[string], `PRAGMA integrity_check(20)`)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		return []string{corrupt.Error()}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("check the store: %w", err)
	}
	for _, line := range pages {
		if line != "ok" {
			found = append(found, "the file is damaged: "+strings.TrimPrefix(line, "*** in database main ***\n"))
		}
	}
	if len(found) > 0 {
		return found, nil // what rows say is worth nothing now
	}
	orphans, err := list(ctx, s.read, func(scan func(...any) error) (string, error) {
		var table, parent string
		var row *int64
		var key int
		err := scan(&table, &row, &parent, &key)
		return fmt.Sprintf("a row of %s refers to a row of %s that is not there", table, parent), err
	}, `PRAGMA foreign_key_check`)
	if err != nil {
		return nil, fmt.Errorf("check the store: %w", err)
	}
	found = append(found, orphans[:min(len(orphans), findings)]...)
	for _, rule := range rules {
		ids, err := list(ctx, s.read, value[string], rule.query+` LIMIT 20`)
		if err != nil {
			return nil, fmt.Errorf("check the store: %w", err)
		}
		for _, id := range ids {
			found = append(found, fmt.Sprintf(rule.sentence, id))
		}
	}
	return found, nil
}
