-- +goose Up

-- The attempts that have printed something.
CREATE TABLE log (
  run       TEXT NOT NULL,
  attempt   BIGINT NOT NULL,
  log_limit BIGINT NOT NULL,
  closed    BIGINT NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
  PRIMARY KEY (run, attempt)
);
CREATE INDEX log_open ON log (run, attempt) WHERE closed = 0;

-- What they printed. Begins and ends are offsets in the stream.
CREATE TABLE chunk (
  run      TEXT NOT NULL,
  attempt  BIGINT NOT NULL,
  begins   BIGINT NOT NULL,
  ends     BIGINT NOT NULL CHECK (ends > begins),
  base     BIGINT NOT NULL,
  read_at  BIGINT NOT NULL,
  marks    BLOB NOT NULL,
  data     BLOB NOT NULL,
  PRIMARY KEY (run, attempt, begins),
  FOREIGN KEY (run, attempt) REFERENCES log (run, attempt) ON DELETE CASCADE
);
