CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
CREATE TABLE clock (
  scope TEXT PRIMARY KEY,
  mark  BIGINT NOT NULL,
  high  BIGINT NOT NULL,
  era   BIGINT NOT NULL DEFAULT 0,
  boot  TEXT NOT NULL DEFAULT ''
);
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
, command TEXT NOT NULL DEFAULT '', command_of TEXT NOT NULL DEFAULT '');
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
  published   TEXT, waits_until BIGINT NOT NULL DEFAULT 0, asked_at BIGINT NOT NULL DEFAULT 0, start_by BIGINT NOT NULL DEFAULT 0, finish_by BIGINT NOT NULL DEFAULT 0, backfill TEXT NOT NULL DEFAULT '', parallel BIGINT NOT NULL DEFAULT 0,
  UNIQUE (job, key)
);
CREATE INDEX run_open ON run (state) WHERE state = 'queued' OR state = 'running' OR state = 'publishing';
CREATE INDEX run_outcome ON run (job, ended_at, id) WHERE state = 'succeeded' OR state = 'failed' OR state = 'lost';
CREATE INDEX run_by_time ON run (queued_at, fires_at, id);
CREATE INDEX run_by_job ON run (job, queued_at, fires_at, id);
CREATE INDEX run_firing ON run (job, fires_at, id);
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
  max_rss    BIGINT NOT NULL DEFAULT 0, max_rss_exact BIGINT NOT NULL DEFAULT 0 CHECK (max_rss_exact IN (0, 1)),
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
CREATE TABLE target (
  target TEXT PRIMARY KEY,
  item   TEXT NOT NULL REFERENCES outbox (id) ON DELETE CASCADE
);
CREATE INDEX run_waits ON run (waits_until) WHERE waits_until > 0;
CREATE INDEX run_many ON run (job, fires_until) WHERE count > 1;
CREATE INDEX run_start_by ON run (start_by) WHERE start_by > 0;
CREATE INDEX run_finish_by ON run (finish_by) WHERE finish_by > 0;
CREATE INDEX run_backfill ON run (backfill, fires_at, id) WHERE backfill <> '';
CREATE INDEX run_trouble ON run (state, queued_at, fires_at, id)
  WHERE state = 'failed' OR state = 'lost' OR state = 'cancelled' OR state = 'skipped' OR state = 'missed';
CREATE INDEX run_trouble_by_job ON run (job, state, queued_at, fires_at, id)
  WHERE state = 'failed' OR state = 'lost' OR state = 'cancelled' OR state = 'skipped' OR state = 'missed';
CREATE INDEX run_day ON run (fires_at, state)
  WHERE state = 'succeeded' OR state = 'failed' OR state = 'lost' OR state = 'cancelled' OR state = 'skipped' OR state = 'missed';
CREATE INDEX run_definition ON run (definition);
CREATE INDEX job_definition ON job (definition);
CREATE TABLE source (
  project TEXT PRIMARY KEY,
  stamp   TEXT NOT NULL,
  rows    TEXT NOT NULL
, since BIGINT NOT NULL DEFAULT 0);
CREATE TABLE published (
  run         TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  number      BIGINT NOT NULL,
  job         TEXT NOT NULL REFERENCES job (id),
  date        TEXT NOT NULL,
  at          BIGINT NOT NULL,
  place       TEXT NOT NULL,
  target      TEXT NOT NULL,
  files       BIGINT NOT NULL,
  bytes       BIGINT NOT NULL,
  manifest    TEXT NOT NULL,
  replaced_by TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (run, number)
);
CREATE INDEX published_by_time ON published (at, run, number DESC);
CREATE INDEX published_by_job ON published (job, at, run, number DESC);
CREATE INDEX published_by_date ON published (date, at, run, number DESC);
CREATE INDEX published_now ON published (at, run, number DESC) WHERE replaced_by = '';
CREATE INDEX published_now_by_job ON published (job, at, run, number DESC) WHERE replaced_by = '';
CREATE UNIQUE INDEX published_at ON published (place) WHERE replaced_by = '';
CREATE TABLE audit (
  id       TEXT PRIMARY KEY,
  at       BIGINT NOT NULL,
  uid      BIGINT NOT NULL,
  person   TEXT NOT NULL,
  action   TEXT NOT NULL,
  job      TEXT NOT NULL DEFAULT '',
  run      TEXT NOT NULL DEFAULT '',
  backfill TEXT NOT NULL DEFAULT '',
  detail   TEXT NOT NULL DEFAULT ''
);
CREATE INDEX audit_run ON audit (run, id) WHERE run <> '';
CREATE INDEX audit_backfill ON audit (backfill, id) WHERE backfill <> '';
CREATE INDEX audit_job ON audit (job, id) WHERE job <> '';
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (1, 0, 1, '2026-11-26 03:28:31');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (2, 1, 1, '2026-11-26 03:28:31');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (3, 2, 1, '2026-11-26 03:28:31');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (4, 3, 1, '2026-11-26 03:28:31');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (5, 4, 1, '2026-11-26 03:28:31');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (6, 5, 1, '2026-11-26 03:28:31');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (7, 6, 1, '2026-11-26 03:28:31');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (8, 7, 1, '2026-11-26 03:28:31');
INSERT INTO goose_db_version (id, version_id, is_applied, tstamp) VALUES (9, 8, 1, '2026-11-26 03:28:31');
INSERT INTO clock (scope, mark, high, era, boot) VALUES ('', 1783612800000, 1783612800001, 2, 'boot');
INSERT INTO definition (hash, body) VALUES ('h1', '{"project":"lake","name":"a","owner":"alice","schedules":["0 16 * * *"],"timezone":"UTC","command":{"text":"run a","shell":"/bin/sh"},"catch_up":"latest","overlap":"skip"}');
INSERT INTO job (id, project, name, owner, definition, source, line, timing, since, paused, removed_at, command, command_of) VALUES ('J1', 'lake', 'a', 'alice', 'h1', 'belfry.yaml', 3, 't', 1783612800000, 0, NULL, '', '');
INSERT INTO job (id, project, name, owner, definition, source, line, timing, since, paused, removed_at, command, command_of) VALUES ('J2', 'lake', 'b', 'alice', 'h1', 'belfry.yaml', 5, 't', 1783612800000, 1, 1783612800005, '', '');
INSERT INTO run (id, job, key, cause, state, reason, definition, fires_at, fires_until, count, named, not_before, attempt, token, node, queued_at, started_at, ended_at, exit_code, signal, published, waits_until, asked_at, start_by, finish_by, backfill, parallel) VALUES ('R1', 'J1', 't/1', 'schedule', 'publishing', '', 'h1', 1783612800000, 1783612800000, 1, '2026-07-09T16:00:00', 0, 1, 1, 'node', 1783612800000, 1783612800002, NULL, NULL, '', NULL, 0, 0, 0, 0, '', 0);
INSERT INTO run (id, job, key, cause, state, reason, definition, fires_at, fires_until, count, named, not_before, attempt, token, node, queued_at, started_at, ended_at, exit_code, signal, published, waits_until, asked_at, start_by, finish_by, backfill, parallel) VALUES ('R2', 'J2', 'a/1', 'after', 'queued', 'dependency', 'h1', 1783612800000, 1783612800000, 1, '2026-07-09T16:00:00', 0, 0, 0, '', 1783612800000, NULL, NULL, NULL, '', NULL, 0, 0, 0, 0, '', 0);
INSERT INTO run_parent (run, parent) VALUES ('R2', 'R1');
INSERT INTO attempt (run, number, token, node, boot, targets, started_at, ended_at, exit_code, signal, reason, user_cpu, system_cpu, max_rss, max_rss_exact) VALUES ('R1', 1, 1, 'node', 'boot', '[{"to":"/lake"}]', 1783612800002, 1783612800003, 0, '', '', 7, 0, 0, 0);
INSERT INTO outbox (id, run, kind, payload, progress, state, tries, error, result, created_at, next_at) VALUES ('O1', 'R1', 'publish', '{}', NULL, 'sending', 0, '', NULL, 1783612800003, 1783612800003);
INSERT INTO outbox_target (item, target) VALUES ('O1', '/lake');
INSERT INTO target (target, item) VALUES ('/lake', 'O1');
INSERT INTO source (project, stamp, rows, since) VALUES ('lake', 's', 'r', 0);
INSERT INTO published (run, number, job, date, at, place, target, files, bytes, manifest, replaced_by) VALUES ('R1', 0, 'J1', '2026-07-09', 1783612800003, '/pond', '/pond/', 2, 7, 'abc', '');
INSERT INTO audit (id, at, uid, person, action, job, run, backfill, detail) VALUES ('A1', 1783612800003, 1000, 'alice', 'stop', 'J1', 'R1', '', '');
