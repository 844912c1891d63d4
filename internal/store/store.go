// Package store answers: what has been written down? All SQL of Belfry stands
// here, in one text that SQLite reads now and PostgreSQL is to read as it is.
// Times are UTC milliseconds, ids are text, lists and objects are JSON as text.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"belfry/internal/run"
)

//go:embed migrations
var migrations embed.FS

// FileName is the database's name in a data folder.
const FileName = "belfry.db"

// ErrNotFound is returned for a run or a job that is not there.
var ErrNotFound = run.ErrNotFound

// Store is an open database. Its methods may be called from any goroutine.
type Store struct {
	write *sql.DB // one connection; nil when read-only
	read  *sql.DB
}

// Open opens the database in the folder dir, makes it if need be, and brings
// its schema up to date.
func Open(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, FileName)
	// SQLite would create the file with the umask's permissions. One that is
	// there is not touched: closing it would drop SQLite's locks on it.
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	write, err := open(path, "rw", "immediate")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	s := &Store{write: write}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store %s: %w", path, err), s.Close())
	}
	if s.read, err = open(path, "ro", "deferred"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.read.SetMaxOpenConns(4)
	return s, nil
}

// OpenReadOnly opens the database in dir to look at it beside its owner.
// A folder without one gives an error that is fs.ErrNotExist.
func OpenReadOnly(dir string) (*Store, error) {
	path := filepath.Join(dir, FileName)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	read, err := open(path, "ro", "deferred")
	if err != nil {
		return nil, err
	}
	read.SetMaxOpenConns(4)
	return &Store{read: read}, nil
}

// OpenEmpty gives a store of its own in memory: what a folder without a
// database looks like to somebody who only reads.
func OpenEmpty(ctx context.Context) (*Store, error) {
	db, err := sql.Open("sqlite", "file::memory:?_pragma=foreign_keys(1)")
	if err != nil {
		return nil, fmt.Errorf("open an empty store: %w", err)
	}
	db.SetMaxOpenConns(1)
	s := &Store{write: db}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open an empty store: %w", err), s.Close())
	}
	return &Store{read: db}, nil
}

func open(path, mode, txlock string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_txlock": {txlock}, "_pragma": {"busy_timeout(5000)", "foreign_keys(1)", "synchronous(FULL)"}}
	if mode == "rw" {
		query.Add("_pragma", "journal_mode(WAL)")
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", path, err)
	}
	return db, nil
}

func (s *Store) migrate(ctx context.Context) error {
	dialect, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, s.write, dialect)
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring the schema up to date: %w", err)
	}
	return nil
}

// Close closes the database.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// update runs f in one durable transaction.
func (s *Store) update(ctx context.Context, what string, f func(tx *tx) error) error {
	if s.write == nil {
		return fmt.Errorf("%s: the store is open for reading only", what)
	}
	raw, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := f(&tx{ctx, raw}); err != nil {
		return fmt.Errorf("%s: %w", what, errors.Join(err, rollback(raw)))
	}
	if err := raw.Commit(); err != nil {
		// SQLite may still be in the transaction (the disk is full, say), and this
		// is its only connection. Where it is not, there is nothing to roll back.
		_, _ = s.write.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func rollback(raw *sql.Tx) error {
	if err := raw.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return nil
}

// tx is a transaction that carries its context for as long as update runs.
type tx struct {
	ctx context.Context
	raw *sql.Tx
}

// exec gives the number of rows that were changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	result, err := t.raw.ExecContext(t.ctx, dialect(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// querier is what both a database and a transaction can do.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// list reads all rows of a query.
func list[T any](ctx context.Context, db querier, scan func(scan func(...any) error) (T, error), query string, args ...any) (items []T, err error) {
	rows, err := db.QueryContext(ctx, dialect(query), args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		item, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, rows.Err()
}

// one reads the only row of a query; none is ErrNotFound.
func one[T any](ctx context.Context, db querier, scan func(scan func(...any) error) (T, error), query string, args ...any) (T, error) {
	items, err := list(ctx, db, scan, query, args...)
	if err == nil && len(items) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return items[0], nil
}

// value scans a single column.
func value[T any](scan func(...any) error) (v T, err error) {
	err = scan(&v)
	return v, err
}

var parameter = regexp.MustCompile(`\$([0-9]+)`)

// dialect writes PostgreSQL's $1 as SQLite's ?1.
func dialect(query string) string { return parameter.ReplaceAllString(query, "?$1") }

// millis is how a time is stored; NULL for the zero time.
func millis(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}

func fromMillis(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}
