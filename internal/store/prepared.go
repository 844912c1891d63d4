package store

import (
	"context"
	"database/sql"
	"errors"
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
		return nil, explain(p.path, err)
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
	return rows, explain(p.path, err)
}

func (p *prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.statement(ctx, query) //nolint:sqlclosecheck // it is kept
	if err != nil {
		return nil, err
	}
	result, err := s.ExecContext(ctx, args...)
	return result, explain(p.path, err)
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
