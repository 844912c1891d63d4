package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"belfry/internal/logs"
)

// LogsName is the name of the database of what jobs print. It is a file of its
// own, with its own writer, so that a claim never waits behind a log.
const LogsName = "logs.db"

var _ logs.Store = (*Store)(nil)

// logDB is the database of what jobs printed.
type logDB struct {
	write *writer // nil when read-only
	read  *prepared
	pool  *sql.DB // of read
	sync  *sql.DB // a connection for checkpoints: the writer's is in transactions
}

// Unlike the account, logs are not on the disk as soon as they are committed:
// what a job printed is in its file until SyncLogs.
const logsSynchronous = "synchronous(NORMAL)"

// openLogs opens the logs in the folder dir for their owner.
func openLogs(ctx context.Context, dir string) (_ *logDB, err error) {
	path := filepath.Join(dir, LogsName)
	if err := createPrivate(path); err != nil {
		return nil, err
	}
	// auto_vacuum counts only before the first table is made: so that what is
	// dropped can be given back to the disk without writing all of it anew.
	write, err := open(path, "rw", logsSynchronous, "auto_vacuum(INCREMENTAL)")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	if err := migrate(ctx, write, "migrations/logs"); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", explain(path, err)), write.Close())
	}
	db := &logDB{write: newWriter(write, path)}
	if err := db.openPool(path, "ro"); err != nil {
		return nil, errors.Join(err, db.close())
	}
	if db.sync, err = open(path, "rw", logsSynchronous); err != nil {
		return nil, errors.Join(err, db.close())
	}
	db.sync.SetMaxOpenConns(1)
	return db, nil
}

// openLogsReadOnly opens the logs beside their owner; nil when there are none.
func openLogsReadOnly(dir string) (*logDB, error) {
	path := filepath.Join(dir, LogsName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 && quiet(path) {
		return nil, nil
	}
	db := &logDB{}
	if err := db.openPool(path, "ro"); err != nil {
		return nil, err
	}
	_, err = one(context.Background(), db.read, value[int64], `SELECT MAX(version_id) FROM goose_db_version`)
	var unavailable *UnavailableError
	if errors.As(err, &unavailable) && quiet(path) { // as in OpenReadOnly
		return db, errors.Join(db.close(), db.openPool(path, immutable))
	}
	return db, nil // whoever asks for a log is told what is wrong with it
}

func (db *logDB) openPool(path, mode string) (err error) {
	if db.pool, err = open(path, mode, logsSynchronous); err != nil {
		return err
	}
	db.pool.SetMaxOpenConns(readers)
	db.pool.SetMaxIdleConns(1)
	db.read = newPrepared(db.pool, path)
	if mode == immutable {
		db.read.was, err = os.Stat(path)
	}
	return err
}

func (db *logDB) close() error {
	if db == nil {
		return nil
	}
	var errs []error
	if db.pool != nil {
		errs = append(errs, db.read.close(), db.pool.Close())
	}
	if db.sync != nil {
		errs = append(errs, db.sync.Close())
	}
	if db.write != nil {
		errs = append(errs, db.write.close())
	}
	return errors.Join(errs...)
}

const logColumns = `run, attempt, log_limit, closed FROM log `

func scanLog(scan func(...any) error) (l logs.Log, err error) {
	err = scan(&l.Run, &l.Number, &l.Limit, &l.Closed)
	return l, err
}

// OpenLogs lists the logs that are not closed.
func (s *Store) OpenLogs(ctx context.Context) ([]logs.Log, error) {
	if s.logs == nil {
		return nil, nil
	}
	return list(ctx, s.logs.read, scanLog, `SELECT `+logColumns+`WHERE closed = 0 ORDER BY run, attempt`)
}

// Log gives what is known of an attempt's log; false when it printed nothing.
func (s *Store) Log(ctx context.Context, id string, attempt int) (logs.Log, bool, error) {
	if s.logs == nil {
		return logs.Log{}, false, nil
	}
	return maybe(one(ctx, s.logs.read, scanLog, `SELECT `+logColumns+`WHERE run = $1 AND attempt = $2`, id, attempt))
}

const chunkColumns = `begins, ends, base, read_at, marks, data FROM chunk `

func scanChunk(scan func(...any) error) (c logs.Chunk, err error) {
	var end, at int64
	err = scan(&c.Start, &end, &c.Base, &at, &c.Marks, &c.Data)
	c.Length, c.At = end-c.Start, time.UnixMilli(at)
	return c, err
}

// ChunkBehind gives the first chunk that ends behind an offset: the one that
// holds it or, when none does, the one after it.
func (s *Store) ChunkBehind(ctx context.Context, id string, attempt int, offset int64) (logs.Chunk, bool, error) {
	if s.logs == nil {
		return logs.Chunk{}, false, nil
	}
	// Chunks do not overlap: the first that ends behind the offset is the last
	// that begins at or before it, or the next.
	return maybe(one(ctx, s.logs.read, scanChunk, `SELECT `+chunkColumns+`WHERE run = $1 AND attempt = $2 AND ends > $3
		AND begins >= COALESCE((SELECT begins FROM chunk WHERE run = $1 AND attempt = $2 AND begins <= $3 ORDER BY begins DESC LIMIT 1), 0)
		ORDER BY begins LIMIT 1`, id, attempt, offset))
}

// ChunkBefore gives the last chunk that begins before an offset.
func (s *Store) ChunkBefore(ctx context.Context, id string, attempt int, offset int64) (logs.Chunk, bool, error) {
	if s.logs == nil {
		return logs.Chunk{}, false, nil
	}
	return maybe(one(ctx, s.logs.read, scanChunk, `SELECT `+chunkColumns+`WHERE run = $1 AND attempt = $2 AND begins < $3 ORDER BY begins DESC LIMIT 1`, id, attempt, offset))
}

// ChunkSince gives the first chunk of which a part was read at t or later.
func (s *Store) ChunkSince(ctx context.Context, id string, attempt int, t time.Time) (logs.Chunk, bool, error) {
	if s.logs == nil {
		return logs.Chunk{}, false, nil
	}
	return maybe(one(ctx, s.logs.read, scanChunk, `SELECT `+chunkColumns+`WHERE run = $1 AND attempt = $2 AND read_at >= $3 ORDER BY begins LIMIT 1`, id, attempt, t.UnixMilli()))
}

// maybe makes of what was not found a false.
func maybe[T any](v T, err error) (T, bool, error) {
	if errors.Is(err, ErrNotFound) {
		return v, false, nil
	}
	return v, err == nil, err
}

// SaveLogs writes what is new of several logs.
func (s *Store) SaveLogs(ctx context.Context, changes []logs.Change) error {
	return s.updateLogs(ctx, "save logs", func(tx *tx) error {
		for _, c := range changes {
			if c.Log.Closed && len(c.Chunks) == 0 { // if it was not dropped meanwhile
				if _, err := tx.exec(`UPDATE log SET closed = 1 WHERE run = $1 AND attempt = $2`, c.Log.Run, c.Log.Number); err != nil {
					return err
				}
				continue
			}
			if _, err := tx.exec(`INSERT INTO log (run, attempt, log_limit, closed) VALUES ($1, $2, $3, $4)
				ON CONFLICT (run, attempt) DO UPDATE SET closed = excluded.closed WHERE log.closed <> excluded.closed`,
				c.Log.Run, c.Log.Number, c.Log.Limit, number(c.Log.Closed)); err != nil {
				return err
			}
			for _, chunk := range c.Chunks {
				if _, err := tx.exec(`INSERT INTO chunk (run, attempt, begins, ends, base, read_at, marks, data) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
					ON CONFLICT (run, attempt, begins) DO UPDATE SET ends = excluded.ends, read_at = excluded.read_at, marks = excluded.marks, data = excluded.data`,
					c.Log.Run, c.Log.Number, chunk.Start, chunk.End(), chunk.Base, chunk.At.UnixMilli(), chunk.Marks, chunk.Data); err != nil {
					return err
				}
			}
			if c.DropTo > c.DropFrom {
				if _, err := tx.exec(`DELETE FROM chunk WHERE run = $1 AND attempt = $2 AND begins >= $3 AND begins < $4 AND ends <= $4`,
					c.Log.Run, c.Log.Number, c.DropFrom, c.DropTo); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// DropLogs forgets what the runs printed, one after the other: so what others
// save comes in between.
func (s *Store) DropLogs(ctx context.Context, runs []string) error {
	for _, id := range runs {
		err := s.updateLogs(ctx, "drop logs", func(tx *tx) error {
			_, err := tx.exec(`DELETE FROM log WHERE run = $1`, id) // its chunks go with it
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// SyncLogs makes what was saved survive a loss of power: a checkpoint copies the
// whole write-ahead log into the database and syncs both, unless a reader that
// still looks at an older state is in the way.
func (s *Store) SyncLogs(ctx context.Context) error {
	if s.logs == nil || s.logs.write == nil {
		return errReadOnly("sync logs")
	}
	var busy, pages, done int
	if err := s.logs.sync.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &done); err != nil {
		return fmt.Errorf("sync logs: %w", explain(s.logs.write.path, err))
	}
	if busy != 0 || done < pages {
		return fmt.Errorf("sync logs: %d of %d pages are in the database", done, pages)
	}
	return nil
}

// updateLogs runs f in one transaction on the logs.
func (s *Store) updateLogs(ctx context.Context, what string, f func(tx *tx) error) error {
	if s.logs == nil || s.logs.write == nil {
		return errReadOnly(what)
	}
	if err := s.logs.write.update(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func errReadOnly(what string) error {
	return fmt.Errorf("%s: the store is open for reading only", what)
}
