-- +goose Up
-- What is billed of a tenant's usage: minute is Unix time in minutes, and what
-- is written of a minute before it is noted. notes counts how often.
CREATE TABLE metering_watched (
  tenant text COLLATE "C" PRIMARY KEY,
  minute integer NOT NULL,
  notes bigint NOT NULL DEFAULT 0
);
-- A batch that is not late finds nothing here.
CREATE INDEX metering_watched_minute ON metering_watched (minute);

-- The UTC days of which something was written after they were billed. note is
-- the last of the tenant's notes.
CREATE TABLE metering_late (
  tenant text COLLATE "C" NOT NULL,
  day integer NOT NULL,
  note bigint NOT NULL,
  PRIMARY KEY (tenant, day)
);
