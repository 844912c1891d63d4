-- +goose Up

-- Every change that a person made: who, when, what, on what. Ids are in the order
-- of time. It names its run, job and backfill also when they are gone.
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
