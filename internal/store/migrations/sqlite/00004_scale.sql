-- +goose Up

-- Rare among a million runs, and what people look for. Written with OR for the
-- reason given at run_open. A run's start touches none of them.
CREATE INDEX run_trouble ON run (state, queued_at, fires_at, id)
  WHERE state = 'failed' OR state = 'lost' OR state = 'cancelled' OR state = 'skipped' OR state = 'missed';
CREATE INDEX run_trouble_by_job ON run (job, state, queued_at, fires_at, id)
  WHERE state = 'failed' OR state = 'lost' OR state = 'cancelled' OR state = 'skipped' OR state = 'missed';
-- What became of each day.
CREATE INDEX run_day ON run (fires_at, state)
  WHERE state = 'succeeded' OR state = 'failed' OR state = 'lost' OR state = 'cancelled' OR state = 'skipped' OR state = 'missed';
-- A definition that no run refers to any more is removed.
CREATE INDEX run_definition ON run (definition);
CREATE INDEX job_definition ON job (definition);
