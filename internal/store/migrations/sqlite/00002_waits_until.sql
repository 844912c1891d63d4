-- +goose Up

-- A run of a job with a schedule of its own waits for the firings of its
-- parents on its date; those that are still to come are recorded until then.
-- 0: no more come.
ALTER TABLE run ADD COLUMN waits_until BIGINT NOT NULL DEFAULT 0;
CREATE INDEX run_waits ON run (waits_until) WHERE waits_until > 0;
-- A firing within a row of many.
CREATE INDEX run_many ON run (job, fires_until) WHERE count > 1;
