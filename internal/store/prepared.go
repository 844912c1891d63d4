package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"sync"
)

// prepared runs statements and keeps them prepared: parsing one takes SQLite
// longer than most of ours take to run. There are as many as stand in this
// package. Its errors are those of explain.
type prepared struct {
	db interface { // *sql.DB or *sql.Conn
		PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	}
	path string
	// was is what the file was when it was opened as one that nobody changes; nil
	// when it was not opened like that.
	was fs.FileInfo

	mu         sync.Mutex
	statements map[string]*sql.Stmt // guarded by mu
}

func newPrepared(db interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}, path string,
) *prepared {
	return &prepared{db: db, path: path, statements: map[string]*sql.Stmt{}}
}

func (p *prepared) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.statements[query]; ok {
		return s, nil
	}
	s, err := p.db.PrepareContext(ctx, dialect(query)) //nolint:sqlclosecheck // it is kept, and close closes it
	if err != nil {
		return nil, p.explain(err)
	}
	p.statements[query] = s
	return s, nil
}

func (p *prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return nil, err
	}
	rows, err := s.QueryContext(ctx, args...)
	return rows, p.explain(err)
}

func (p *prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return nil, err
	}
	result, err := s.ExecContext(ctx, args...)
	return result, p.explain(err)
}

// explain is that of the package. A file that was opened as one that nobody
// changes looks damaged once its owner has changed it.
func (p *prepared) explain(err error) error {
	err = explain(p.path, err)
	var corrupt *CorruptError
	if p.was == nil || !errors.As(err, &corrupt) {
		return err
	}
	if is, statErr := os.Stat(p.path); statErr == nil && is.Size() == p.was.Size() && is.ModTime().Equal(p.was.ModTime()) {
		return err
	}
	return &UnavailableError{fmt.Sprintf("the owner of %s has just written it: ask again", p.path), corrupt.Err}
}

func (p *prepared) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, s := range p.statements {
		errs = append(errs, s.Close())
	}
	clear(p.statements)
	return errors.Join(errs...)
}

var parameter = regexp.MustCompile(`\$([0-9]+)`)

// dialect writes PostgreSQL's $1 as SQLite's ?1.
func dialect(query string) string { return parameter.ReplaceAllString(query, "?$1") }
