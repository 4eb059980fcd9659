-- +goose Up
-- What is billed of a tenant's usage: minute is Unix time in minutes, and what
-- is written of a minute before it is noted. notes counts how often.
CREATE TABLE metering_watched (
  tenant TEXT PRIMARY KEY,
  minute INTEGER NOT NULL,
  notes INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
-- A batch that is not late finds nothing here.
CREATE INDEX metering_watched_minute ON metering_watched (minute);

-- The UTC days of which something was written after they were billed. note is
-- the last of the tenant's notes.
CREATE TABLE metering_late (
  tenant TEXT NOT NULL,
  day INTEGER NOT NULL,
  note INTEGER NOT NULL,
  PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;
