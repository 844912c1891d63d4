package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// columns are the values of a row, taken one after the other.
type columns struct {
	values []any // nil for NULL
	err    error // of the first that is not what it was taken for
}

func readColumns(scan func(...any) error, n int) (*columns, error) {
	values := make([]any, 2*n)
	into := values[n:]
	for i := range into {
		into[i] = &values[i]
	}
	return &columns{values: values[:n]}, scan(into...)
}

func (c *columns) next() any {
	v := c.values[0]
	c.values = c.values[1:]
	return v
}

func (c *columns) wrong(v any, what string) {
	if v != nil && c.err == nil {
		c.err = fmt.Errorf("a column holds %v, which is no %s", v, what)
	}
}

// text is empty for NULL.
func (c *columns) text() string {
	v := c.next()
	s, ok := v.(string)
	if !ok {
		c.wrong(v, "text")
	}
	return s
}

func (c *columns) number() sql.NullInt64 {
	v := c.next()
	n, ok := v.(int64)
	if !ok {
		c.wrong(v, "number")
	}
	return sql.NullInt64{Int64: n, Valid: ok}
}

func (c *columns) named() time.Time {
	named, err := time.Parse(namedLayout, c.text())
	if err != nil && c.err == nil {
		c.err = err
	}
	return named
}

func (c *columns) exitCode() *int {
	n := c.number()
	if !n.Valid {
		return nil
	}
	code := int(n.Int64)
	return &code
}

func (c *columns) json() json.RawMessage {
	if text := c.text(); text != "" {
		return json.RawMessage(text)
	}
	return nil
}

// bit is what a column holds for a claim that is true or not.
func bit(claim bool) int {
	if claim {
		return 1
	}
	return 0
}
