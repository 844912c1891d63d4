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

-- What entries are matched by, so that no definition has to be read for it; it
-- is that of the definition command_of, which an older belfry leaves behind.
ALTER TABLE job ADD COLUMN command TEXT NOT NULL DEFAULT '';
ALTER TABLE job ADD COLUMN command_of TEXT NOT NULL DEFAULT '';

-- What the jobs of a project were read from: stamp is of the text and of all
-- that it was read with, rows is of the jobs that came of it.
CREATE TABLE source (
  project TEXT PRIMARY KEY,
  stamp   TEXT NOT NULL,
  rows    TEXT NOT NULL
);
