package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Backup copies the databases, under their names, into a folder that must not
// be there yet, while they are being read and written. The folder is whole or
// not there.
func (s *Store) Backup(ctx context.Context, dir string) error {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("back up the store: %s is there already: choose another name, or remove it first", dir)
	}
	part, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*") // 0700: nobody reads it half written
	if err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	defer os.RemoveAll(part) //nolint:errcheck // gone, or what could not be completed
	// The account first: what its runs printed until then is in the logs too.
	err = copyTo(ctx, s.read, filepath.Join(part, FileName))
	if err == nil && s.logs != nil {
		err = copyTo(ctx, s.logs.read, filepath.Join(part, LogsName))
	}
	if err == nil {
		err = syncFile(part)
	}
	if err != nil {
		return fmt.Errorf("back up the store to %s: %w", dir, err)
	}
	// It replaces no file, and no folder with anything in it, that has come there meanwhile.
	if err := os.Rename(part, dir); err != nil {
		return fmt.Errorf("back up the store: %w", err)
	}
	return syncFile(filepath.Dir(dir))
}

func copyTo(ctx context.Context, db *prepared, path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil { // SQLite takes an empty file
		return err
	}
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
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

// Vacuum gives the room that removed rows have left back to the disk, page by page:
// what is written meanwhile comes in between. An account of an older belfry has to
// be rebuilt first, and changes of it wait until that is done.
func (s *Store) Vacuum(ctx context.Context) error {
	if s.write == nil || s.logs == nil {
		return errReadOnly("vacuum the store")
	}
	err := s.write.alone(ctx, func(conn *prepared) error { return rebuild(ctx, conn) })
	for _, w := range []*writer{s.write, s.logs.write} {
		for more := true; more && err == nil; {
			more, err = shrink(ctx, w)
		}
		if err == nil {
			err = w.alone(ctx, func(conn *prepared) error { return truncate(ctx, conn) })
		}
	}
	if err != nil {
		return s.failed(fmt.Errorf("vacuum the store: %w", err))
	}
	return nil
}

// rebuild writes a database anew that cannot be shrunk page by page. The copy is
// made in a file: in memory it would take twice the size of the account.
func rebuild(ctx context.Context, conn *prepared) error {
	// The PRAGMA itself, once prepared, goes on saying what it said first.
	mode, err := one(ctx, conn, value[int64], "SELECT auto_vacuum FROM pragma_auto_vacuum")
	if err != nil || mode == incremental {
		return err
	}
	for _, statement := range []string{"PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA temp_store = FILE", "VACUUM", "PRAGMA temp_store = MEMORY"} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// incremental is the number of the auto_vacuum of that name.
const incremental = 2

// ShrinkLogs gives some four megabytes of the room that dropped logs have left
// back to the disk, at the next sync of the logs. more says that there is more.
func (s *Store) ShrinkLogs(ctx context.Context) (more bool, err error) {
	if s.logs == nil || s.logs.write == nil {
		return false, errReadOnly("shrink the logs")
	}
	return shrink(ctx, s.logs.write)
}

// shrink gives some four megabytes of a database back, and says whether there is
// more.
func shrink(ctx context.Context, w *writer) (more bool, err error) {
	err = w.alone(ctx, func(conn *prepared) error {
		free := func() (int64, error) { return one(ctx, conn, value[int64], "PRAGMA freelist_count") }
		before, err := free()
		if err != nil || before == 0 {
			return err
		}
		// It gives a row for each page, and does the work as they are read.
		nothing := func(func(...any) error) error { return nil }
		if err := each(ctx, conn, nothing, "PRAGMA incremental_vacuum(1000)"); err != nil {
			return err
		}
		left, err := free()
		if err != nil {
			return err
		}
		more = left > 0 && left < before
		return nil
	})
	return more, err
}

// truncate brings the whole write-ahead log into the database, whose file then
// has the size that it is to have, unless a reader is in the way.
func truncate(ctx context.Context, conn *prepared) error {
	_, err := conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// rule is what must be true of the rows beyond what constraints hold: the query
// gives the ids of rows that break it.
type rule struct{ query, sentence string }

// rules are those of the account.
var rules = []rule{
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

// logRules are those of the logs.
var logRules = []rule{
	{
		`SELECT run FROM chunk WHERE EXISTS (SELECT 1 FROM chunk AS other WHERE other.run = chunk.run AND other.attempt = chunk.attempt
			AND other.begins > chunk.begins AND other.begins < chunk.ends)`,
		"two pieces of what run %s printed overlap",
	},
}

// findings is how many of one kind Check tells.
const findings = 20

// Check looks whether the databases are whole and their rows agree with each
// other. Each finding is a sentence; none means that all is well.
func (s *Store) Check(ctx context.Context) ([]string, error) {
	found, whole, err := checkDatabase(ctx, s.read, rules)
	if err == nil && s.logs != nil {
		more, logsWhole, logsErr := checkDatabase(ctx, s.logs.read, logRules)
		found, err = append(found, more...), logsErr
		if whole && logsWhole && err == nil {
			more, err = s.strayLogs(ctx)
			found = append(found, more...)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("check the store: %w", err)
	}
	return found, nil
}

// checkDatabase checks one file. It is whole when what its rows say is worth
// something.
func checkDatabase(ctx context.Context, db *prepared, rules []rule) (found []string, whole bool, err error) {
	found, err = damage(ctx, db)
	if err == nil && len(found) == 0 {
		whole = true
		found, err = disagreement(ctx, db, rules)
	}
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		return append(found, corrupt.Error()), false, nil
	}
	return found, whole, err
}

func damage(ctx context.Context, db *prepared) (found []string, err error) {
	lines, err := list(ctx, db, value[string], `PRAGMA integrity_check(20)`)
	for _, line := range lines {
		if line != "ok" {
			found = append(found, fmt.Sprintf("the file %s is damaged: %s", filepath.Base(db.path), strings.TrimPrefix(line, "*** in database main ***\n")))
		}
	}
	return found, err
}

func disagreement(ctx context.Context, db *prepared, rules []rule) (found []string, err error) {
	orphans, err := list(ctx, db, func(scan func(...any) error) (string, error) {
		var table, parent string
		var row *int64
		var key int
		err := scan(&table, &row, &parent, &key)
		return fmt.Sprintf("a row of %s refers to a row of %s that is not there", table, parent), err
	}, `PRAGMA foreign_key_check`)
	if err != nil {
		return nil, err
	}
	found = append(found, orphans[:min(len(orphans), findings)]...)
	for _, rule := range rules {
		ids, err := list(ctx, db, value[string], rule.query+` LIMIT 20`)
		if err != nil {
			return found, err
		}
		for _, id := range ids {
			found = append(found, fmt.Sprintf(rule.sentence, id))
		}
	}
	return found, nil
}

// strayLogs finds what runs printed that are not in the account.
func (s *Store) strayLogs(ctx context.Context) (found []string, err error) {
	for last := ""; len(found) < findings; {
		page, err := list(ctx, s.logs.read, value[string], `SELECT run FROM log WHERE run > $1 GROUP BY run ORDER BY run LIMIT 1000`, last)
		if err != nil || len(page) == 0 {
			return found, err
		}
		for _, id := range page {
			_, err := one(ctx, s.read, value[string], `SELECT id FROM run WHERE id = $1`, id)
			switch {
			case errors.Is(err, ErrNotFound):
				found = append(found, fmt.Sprintf("what run %s printed is kept, but not the run; it does no harm", id))
			case err != nil:
				return found, err
			}
		}
		last = page[len(page)-1]
	}
	return found[:findings], nil
}
