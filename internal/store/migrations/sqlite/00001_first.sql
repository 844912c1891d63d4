-- +goose Up

-- How far everything has been planned (DESIGN.md §4.5). One row, scope ''.
CREATE TABLE clock (
  scope TEXT PRIMARY KEY,
  mark  BIGINT NOT NULL,
  high  BIGINT NOT NULL,
  era   BIGINT NOT NULL DEFAULT 0,
  boot  TEXT NOT NULL DEFAULT ''
);

-- What was run, by the SHA-256 of its text. No values of the environment.
CREATE TABLE definition (
  hash TEXT PRIMARY KEY,
  body TEXT NOT NULL
);

CREATE TABLE job (
  id         TEXT PRIMARY KEY,
  project    TEXT NOT NULL,
  name       TEXT NOT NULL,
  owner      TEXT NOT NULL,
  definition TEXT NOT NULL REFERENCES definition (hash),
  source     TEXT NOT NULL,
  line       BIGINT NOT NULL,
  timing     TEXT NOT NULL,
  since      BIGINT NOT NULL,
  paused     BIGINT NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  removed_at BIGINT
);
-- The name of a removed job is free for another.
CREATE UNIQUE INDEX job_name ON job (project, name) WHERE removed_at IS NULL;

CREATE TABLE run (
  id          TEXT PRIMARY KEY,
  job         TEXT NOT NULL REFERENCES job (id),
  key         TEXT NOT NULL,
  cause       TEXT NOT NULL CHECK (cause IN ('schedule', 'catch-up', 'after', 'reboot', 'manual', 'backfill')),
  state       TEXT NOT NULL CHECK (state IN ('queued', 'running', 'publishing', 'succeeded', 'failed', 'lost', 'cancelled', 'skipped', 'missed')),
  reason      TEXT NOT NULL DEFAULT '',
  definition  TEXT NOT NULL REFERENCES definition (hash),
  fires_at    BIGINT NOT NULL,
  fires_until BIGINT NOT NULL,
  count       BIGINT NOT NULL DEFAULT 1 CHECK (count >= 1),
  named       TEXT NOT NULL,
  not_before  BIGINT NOT NULL DEFAULT 0,
  attempt     BIGINT NOT NULL DEFAULT 0,
  token       BIGINT NOT NULL DEFAULT 0,
  node        TEXT NOT NULL DEFAULT '',
  queued_at   BIGINT NOT NULL,
  started_at  BIGINT,
  ended_at    BIGINT,
  exit_code   BIGINT,
  signal      TEXT NOT NULL DEFAULT '',
  published   TEXT,
  UNIQUE (job, key)
);
-- Written with OR, and not with IN: SQLite uses a partial index only for a
-- condition that it finds word for word among these.
CREATE INDEX run_open ON run (state) WHERE state = 'queued' OR state = 'running' OR state = 'publishing';
CREATE INDEX run_outcome ON run (job, ended_at, id) WHERE state = 'succeeded' OR state = 'failed' OR state = 'lost';
CREATE INDEX run_by_time ON run (queued_at, fires_at, id);
CREATE INDEX run_by_job ON run (job, queued_at, fires_at, id);
CREATE INDEX run_firing ON run (job, fires_at, id);

-- The runs that a run waits for.
CREATE TABLE run_parent (
  run    TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  parent TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  PRIMARY KEY (run, parent)
);
CREATE INDEX run_parent_parent ON run_parent (parent);

CREATE TABLE attempt (
  run        TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  number     BIGINT NOT NULL,
  token      BIGINT NOT NULL,
  node       TEXT NOT NULL,
  boot       TEXT NOT NULL,
  targets    TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at   BIGINT,
  exit_code  BIGINT,
  signal     TEXT NOT NULL DEFAULT '',
  reason     TEXT NOT NULL DEFAULT '',
  user_cpu   BIGINT NOT NULL DEFAULT 0,
  system_cpu BIGINT NOT NULL DEFAULT 0,
  max_rss    BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (run, number)
);

CREATE TABLE outbox (
  id         TEXT PRIMARY KEY,
  run        TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  kind       TEXT NOT NULL CHECK (kind IN ('publish', 'notice')),
  payload    TEXT NOT NULL,
  progress   TEXT,
  state      TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'sent', 'refused')),
  tries      BIGINT NOT NULL DEFAULT 0,
  error      TEXT NOT NULL DEFAULT '',
  result     TEXT,
  created_at BIGINT NOT NULL,
  next_at    BIGINT NOT NULL
);
CREATE INDEX outbox_open ON outbox (next_at) WHERE state = 'pending' OR state = 'sending';
CREATE INDEX outbox_by_run ON outbox (run);

CREATE TABLE outbox_target (
  item   TEXT NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
  target TEXT NOT NULL,
  PRIMARY KEY (item, target)
);

-- Who is sending to a target now: one at a time.
CREATE TABLE target (
  target TEXT PRIMARY KEY,
  item   TEXT NOT NULL REFERENCES outbox (id) ON DELETE CASCADE
);
