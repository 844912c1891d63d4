-- +goose Up

-- What stands, or stood, at each target. place is the target's one name, however
-- it is written; number its place among those of the run.
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
INSERT INTO published (run, number, job, date, at, place, target, files, bytes, manifest)
  SELECT run.id, each.key, run.job, substr(run.named, 1, 10), COALESCE(run.ended_at, run.queued_at),
    rtrim(json_extract(each.value, '$.to'), '/') || CASE WHEN json_extract(each.value, '$.to') LIKE 's3://%' THEN '/' ELSE '' END,
    json_extract(each.value, '$.to'), json_extract(each.value, '$.files'), json_extract(each.value, '$.bytes'), json_extract(each.value, '$.manifest')
  FROM run JOIN json_each(run.published, '$.targets') AS each WHERE run.published IS NOT NULL;
CREATE INDEX published_place ON published (place, at, run, number);
UPDATE published SET replaced_by = COALESCE((SELECT newer.run FROM published AS newer WHERE newer.place = published.place
  AND (newer.at, newer.run, newer.number) > (published.at, published.run, published.number) ORDER BY newer.at, newer.run LIMIT 1), '');
DROP INDEX published_place;

-- The newest run comes first, and its targets in their order.
CREATE INDEX published_by_time ON published (at, run, number DESC);
CREATE INDEX published_by_job ON published (job, at, run, number DESC);
CREATE INDEX published_by_date ON published (date, at, run, number DESC);
CREATE INDEX published_now ON published (at, run, number DESC) WHERE replaced_by = '';
CREATE INDEX published_now_by_job ON published (job, at, run, number DESC) WHERE replaced_by = '';
CREATE UNIQUE INDEX published_at ON published (place) WHERE replaced_by = '';
