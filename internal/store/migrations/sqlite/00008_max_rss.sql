-- +goose Up

-- 1: max_rss is what the attempt had; 0: it had no more than that.
ALTER TABLE attempt ADD COLUMN max_rss_exact BIGINT NOT NULL DEFAULT 0 CHECK (max_rss_exact IN (0, 1));
