package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"belfry/internal/outbox"
	"belfry/internal/run"
)

func (t *tx) owe(item outbox.Item, at time.Time) error {
	id := run.NewID(at)
	if _, err := t.exec(`INSERT INTO outbox (id, run, kind, payload, state, created_at, next_at) VALUES ($1, $2, $3, $4, 'pending', $5, $5)`,
		id, item.Run, item.Kind, string(item.Payload), at.UnixMilli()); err != nil {
		return err
	}
	for _, target := range item.Targets {
		if _, err := t.exec(`INSERT INTO outbox_target (item, target) VALUES ($1, $2) ON CONFLICT (item, target) DO NOTHING`, id, target); err != nil {
			return err
		}
	}
	return nil
}

const itemColumns = `id, run, kind, payload, progress, state, tries, error, result, created_at, next_at FROM outbox `

func scanItem(scan func(...any) error) (outbox.Item, error) {
	var item outbox.Item
	var payload string
	var progress, result sql.NullString
	var created, next sql.NullInt64
	err := scan(&item.ID, &item.Run, &item.Kind, &payload, &progress, &item.State, &item.Tries, &item.Error, &result, &created, &next)
	item.Payload = json.RawMessage(payload)
	if progress.Valid {
		item.Progress = json.RawMessage(progress.String)
	}
	if result.Valid {
		item.Result = json.RawMessage(result.String)
	}
	item.Created, item.NextAt = fromMillis(created), fromMillis(next)
	return item, err
}

// Pending lists the items that wait to be sent, the earliest first.
func (s *Store) Pending(ctx context.Context) ([]outbox.Item, error) {
	return list(ctx, s.read, scanItem, `SELECT `+itemColumns+`WHERE state = 'pending' ORDER BY next_at, id`)
}

// PublishOf gives what a publishing run owes to its targets.
func (s *Store) PublishOf(ctx context.Context, id string) (outbox.Item, error) {
	return one(ctx, s.read, scanItem, `SELECT `+itemColumns+`WHERE run = $1 AND kind = 'publish' AND (state = 'pending' OR state = 'sending') ORDER BY id DESC`, id)
}

// ItemsOf lists the items that a run owes or owed.
func (s *Store) ItemsOf(ctx context.Context, id string) ([]outbox.Item, error) {
	return list(ctx, s.read, scanItem, `SELECT `+itemColumns+`WHERE run = $1 ORDER BY id`, id)
}

// Untried counts the items that have not been tried yet, or are being tried.
func (s *Store) Untried(ctx context.Context) (int, error) {
	return one(ctx, s.read, value[int], `SELECT COUNT(*) FROM outbox WHERE (state = 'pending' OR state = 'sending') AND (state = 'sending' OR tries = 0)`)
}

// Resume puts back what a dead owner was sending.
func (s *Store) Resume(ctx context.Context) error {
	return s.update(ctx, "resume what was being sent", func(tx *tx) error {
		if _, err := tx.exec(`UPDATE outbox SET state = 'pending' WHERE state = 'sending'`); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM target`)
		return err
	})
}

// Begin takes an item for sending. It reports false, and changes nothing, while
// another item that names one of its targets is being sent.
func (s *Store) Begin(ctx context.Context, id string) (begun bool, err error) {
	err = s.update(ctx, "begin to send", func(tx *tx) error {
		n, err := tx.exec(`UPDATE outbox SET state = 'sending', tries = tries + 1 WHERE id = $1 AND state = 'pending'
			AND NOT EXISTS (SELECT 1 FROM target JOIN outbox_target ON outbox_target.target = target.target WHERE outbox_target.item = $1)`, id)
		if err != nil || n == 0 {
			return err
		}
		begun = true
		if _, err := tx.exec(`UPDATE run SET not_before = 0 WHERE id = (SELECT run FROM outbox WHERE id = $1 AND kind = 'publish') AND state = 'publishing' AND not_before > 0`, id); err != nil {
			return err
		}
		_, err = tx.exec(`INSERT INTO target (target, item) SELECT target, item FROM outbox_target WHERE item = $1`, id)
		return err
	})
	return begun, err
}

// SaveProgress keeps what a sender wants to know on its next try.
func (s *Store) SaveProgress(ctx context.Context, id string, progress json.RawMessage) error {
	return s.update(ctx, "save a sender's progress", func(tx *tx) error {
		_, err := tx.exec(`UPDATE outbox SET progress = $1 WHERE id = $2`, string(progress), id)
		return err
	})
}

// Again puts an item back to be tried at next, and keeps when it was created as it
// is now. A run that is being published says why it still is.
func (s *Store) Again(ctx context.Context, item outbox.Item, reason string, next time.Time) error {
	return s.update(ctx, "put back what could not be sent", func(tx *tx) error {
		if _, err := tx.exec(`UPDATE outbox SET state = 'pending', error = $1, next_at = $2, created_at = $3 WHERE id = $4 AND state = 'sending'`,
			reason, next.UnixMilli(), item.Created.UnixMilli(), item.ID); err != nil {
			return err
		}
		if _, err := tx.exec(`UPDATE run SET reason = $1, not_before = $2 WHERE id = (SELECT run FROM outbox WHERE id = $3 AND kind = 'publish' AND state = 'pending') AND state = 'publishing'`,
			reason, next.UnixMilli(), item.ID); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM target WHERE item = $1`, item.ID)
		return err
	})
}

// Settle writes an item's final state.
func (s *Store) Settle(ctx context.Context, item outbox.Item) error {
	return s.update(ctx, "settle what was sent", func(tx *tx) error { return tx.settleItem(item) })
}

func (t *tx) settleItem(item outbox.Item) error {
	if _, err := t.exec(`UPDATE outbox SET state = $1, error = $2, result = $3 WHERE id = $4`,
		item.State, item.Error, sql.NullString{String: string(item.Result), Valid: item.Result != nil}, item.ID); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM target WHERE item = $1`, item.ID)
	return err
}
