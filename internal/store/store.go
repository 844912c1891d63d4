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
	"sync"
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
	write *writer // nil when read-only
	read  *prepared
	pool  *sql.DB // of read
	logs  *logDB  // nil: nothing was printed
	watch func(error) error

	closing sync.Once

	pruning sync.Mutex
	pruned  place // guarded by pruning
}

// Open opens the database in the folder dir, makes it if need be, and brings
// its schema up to date.
func Open(ctx context.Context, dir string) (*Store, error) {
	path := filepath.Join(dir, FileName)
	if err := createPrivate(path); err != nil {
		return nil, err
	}
	// As in openLogs: what retention removes can be given back page by page.
	write, err := open(path, "rw", "auto_vacuum(INCREMENTAL)")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	if err := migrate(ctx, write, "migrations/sqlite"); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", explain(path, err)), write.Close())
	}
	if err := writable(ctx, write, path); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store: %w", err), write.Close())
	}
	read, err := open(path, "ro")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	s := reading(read, path)
	s.write = newWriter(write, path)
	if s.logs, err = openLogs(ctx, dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// createPrivate makes an empty database file: SQLite would create it with the
// umask's permissions. One that is there is not touched: closing it would drop
// SQLite's locks on it.
func createPrivate(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("open the store: %w", err)
	}
	return nil
}

// writable gives an error when SQLite has opened for reading what could not be
// opened for writing, which it says nothing of.
func writable(ctx context.Context, db *sql.DB, path string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return explain(path, err)
	}
	defer conn.Close() //nolint:errcheck // it goes back to the pool
	return conn.Raw(func(raw any) error {
		readOnly, err := raw.(interface{ IsReadOnly(string) (bool, error) }).IsReadOnly("main")
		if err == nil && readOnly {
			err = readOnlyError(path, nil)
		}
		return err
	})
}

// reading gives a store that reads through pool.
func reading(pool *sql.DB, path string) *Store {
	pool.SetMaxOpenConns(readers)
	pool.SetMaxIdleConns(readers)
	return &Store{read: newPrepared(pool, path), pool: pool}
}

// readers is how many may read at once.
const readers = 4

// OpenReadOnly opens the database in dir to look at it beside its owner, or
// without one, also where dir cannot be written. A folder without a database
// gives an error that is fs.ErrNotExist.
func OpenReadOnly(dir string) (*Store, error) {
	path := filepath.Join(dir, FileName)
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	} else if info.Size() == 0 && quiet(path) { // its first owner is about to fill it, or died before it did
		return nil, fmt.Errorf("open the store: %s is empty: %w", path, fs.ErrNotExist)
	}
	s, err := look(path, "ro")
	var unavailable *UnavailableError
	if errors.As(err, &unavailable) && quiet(path) {
		// To read a database with a write-ahead log is to write beside it, which
		// we may not; there is no log, so what the file says is all. An owner who
		// comes now writes into a log first: the file changes when that is long.
		s, err = look(path, immutable)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	if s.logs, err = openLogsReadOnly(dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// quiet reports whether nothing stands in a write-ahead log that is not in the
// database itself.
func quiet(path string) bool {
	info, err := os.Stat(path + "-wal")
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
}

// look opens a database for reading if it can be read and is not older than we
// are. A newer one is read: schemas only ever grow.
func look(path, mode string) (*Store, error) {
	pool, err := open(path, mode)
	if err != nil {
		return nil, err
	}
	s := reading(pool, path)
	if mode == immutable {
		if s.read.was, err = os.Stat(path); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	schema, err := one(context.Background(), s.read, value[int64], `SELECT MAX(version_id) FROM goose_db_version`)
	if err == nil && schema < newest() {
		err = fmt.Errorf("%s is of an older belfry: belfry serve, or belfry run, brings it up to date", path)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// newest is the version of our schema.
func newest() int64 {
	names, err := fs.Glob(migrations, "migrations/sqlite/*.sql")
	if err != nil {
		panic(err) // the pattern is a literal
	}
	version, err := goose.NumericComponent(names[len(names)-1])
	if err != nil {
		panic(err) // so is the name
	}
	return version
}

// OpenEmpty gives a store of its own in memory: what a folder without a
// database looks like to somebody who only reads.
func OpenEmpty(ctx context.Context) (*Store, error) {
	db, err := sql.Open("sqlite", "file::memory:?_pragma=foreign_keys(1)")
	if err != nil {
		return nil, fmt.Errorf("open an empty store: %w", err)
	}
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db, "migrations/sqlite"); err != nil {
		return nil, errors.Join(fmt.Errorf("open an empty store: %w", err), db.Close())
	}
	return &Store{read: newPrepared(db, "in memory"), pool: db}, nil
}

// immutable is the mode of a file that is read as if nobody changed it: without
// locks, and without writing beside it.
const immutable = "immutable"

// open opens a database file. Pragmas come after those that all have.
func open(path, mode string, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_txlock": {"immediate"}, "_pragma": append([]string{"busy_timeout(5000)", "foreign_keys(1)", "synchronous(FULL)", "fullfsync(1)", "temp_store(MEMORY)"}, pragmas...)}
	if mode == "rw" {
		query.Add("_pragma", "journal_mode(WAL)")
		// What a long reader made of the log is given back at the checkpoint after it.
		query.Add("_pragma", fmt.Sprintf("journal_size_limit(%d)", walAtMost))
	} else {
		query.Set("_txlock", "deferred")
	}
	if mode == immutable {
		query.Set("mode", "ro")
		query.Set("immutable", "1")
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", path, err)
	}
	return db, nil
}

// walAtMost is the size that the write-ahead log's file is cut to, in bytes. A
// checkpoint comes after every 4 MB of it.
const walAtMost = 16 << 20

// migrate brings the schema of db up to date with a folder of migrations.
func migrate(ctx context.Context, db *sql.DB, folder string) error {
	dialect, err := fs.Sub(migrations, folder)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, dialect)
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring the schema up to date: %w", err)
	}
	return nil
}

// Close closes the databases. It may be called twice.
func (s *Store) Close() (err error) {
	s.closing.Do(func() {
		err = errors.Join(s.logs.close(), s.read.close(), s.pool.Close())
		if s.write != nil {
			err = errors.Join(err, s.write.close())
		}
	})
	return err
}

// update runs f in a durable transaction, which it may share with others.
func (s *Store) update(ctx context.Context, what string, f func(tx *tx) error) error {
	if s.write == nil {
		return fmt.Errorf("%s: the store is open for reading only", what)
	}
	if err := s.write.update(ctx, f); err != nil {
		return s.failed(fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

// Watch has f see every error of a write to the account, and give the one that
// its caller gets. It is called before anything is written.
func (s *Store) Watch(f func(error) error) { s.watch = f }

func (s *Store) failed(err error) error {
	if s.watch == nil {
		return err
	}
	return s.watch(err)
}

// each gives f the rows of a query, one by one.
func each(ctx context.Context, db *prepared, f func(scan func(...any) error) error, query string, args ...any) (err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return db.explain(rows.Err())
}

// list reads all rows of a query.
func list[T any](ctx context.Context, db *prepared, scan func(scan func(...any) error) (T, error), query string, args ...any) (items []T, err error) {
	err = each(ctx, db, func(row func(...any) error) error {
		item, err := scan(row)
		items = append(items, item)
		return err
	}, query, args...)
	if err != nil {
		return nil, err
	}
	return items, nil
}

// one reads the only row of a query; none is ErrNotFound.
func one[T any](ctx context.Context, db *prepared, scan func(scan func(...any) error) (T, error), query string, args ...any) (T, error) {
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

// orZero and fromZero are for times that are 0 where there is none.
func orZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromZero(ms int64) time.Time {
	return fromMillis(sql.NullInt64{Int64: ms, Valid: ms > 0})
}
