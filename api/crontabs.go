package api

import (
	"context"
	"net/http"
	"net/url"
)

// Crontab is a user's crontab as it stands in the machine's spool, byte for byte
// (base64 in JSON).
type Crontab struct {
	There bool   `json:"there"`
	Text  []byte `json:"text,omitempty"`
}

// CrontabRequest asks that a crontab be installed. From is the name of the file
// that it comes from, for messages and Debian's header.
type CrontabRequest struct {
	From string `json:"from"`
	Text []byte `json:"text"`
}

// Crontab gives a user's crontab.
func (c *Client) Crontab(ctx context.Context, user string) (Crontab, error) {
	return call[Crontab](ctx, c, http.MethodGet, "/crontabs/"+url.PathEscape(user), nil)
}

// InstallCrontab puts a crontab in the place of a user's.
func (c *Client) InstallCrontab(ctx context.Context, user string, r CrontabRequest) error {
	_, err := call[struct{}](ctx, c, http.MethodPut, "/crontabs/"+url.PathEscape(user), r)
	return err
}

// RemoveCrontab removes a user's crontab.
func (c *Client) RemoveCrontab(ctx context.Context, user string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/crontabs/"+url.PathEscape(user), nil)
	return err
}
