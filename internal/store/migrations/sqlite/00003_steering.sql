-- +goose Up

-- When a person asked for the run, or for another attempt of it. 0: nobody did.
ALTER TABLE run ADD COLUMN asked_at BIGINT NOT NULL DEFAULT 0;
UPDATE run SET asked_at = queued_at WHERE cause = 'manual';
-- Until when it should have begun and ended. 0: it is not watched, or not any more.
ALTER TABLE run ADD COLUMN start_by BIGINT NOT NULL DEFAULT 0;
ALTER TABLE run ADD COLUMN finish_by BIGINT NOT NULL DEFAULT 0;
CREATE INDEX run_start_by ON run (start_by) WHERE start_by > 0;
CREATE INDEX run_finish_by ON run (finish_by) WHERE finish_by > 0;
-- The backfill it belongs to, and how many of its runs may run beside each other.
ALTER TABLE run ADD COLUMN backfill TEXT NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN parallel BIGINT NOT NULL DEFAULT 0;
CREATE INDEX run_backfill ON run (backfill, fires_at, id) WHERE backfill <> '';
