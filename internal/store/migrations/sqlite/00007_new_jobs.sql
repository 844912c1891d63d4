-- +goose Up

-- From when on those jobs of the source count that have no row yet, because a
-- long crontab is planned before all of it is written down. 0: all have one.
ALTER TABLE source ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
