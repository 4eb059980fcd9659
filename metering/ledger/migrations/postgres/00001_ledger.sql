-- +goose Up
CREATE TABLE metering_series (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant text COLLATE "C" NOT NULL,
  route text COLLATE "C" NOT NULL,
  consumer text COLLATE "C" NOT NULL,
  plan text COLLATE "C" NOT NULL,
  UNIQUE (tenant, route, consumer, plan)
);

CREATE TABLE metering_meter (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE
);

-- retired: Unix seconds; such a gateway is not waited for any more.
CREATE TABLE metering_gateway (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  retired bigint
);

-- nonce: the 64 bits as a signed number. first: the first minute with cells.
-- final: 1 if the epoch is over.
CREATE TABLE metering_epoch (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  gateway integer NOT NULL REFERENCES metering_gateway,
  counter bigint NOT NULL,
  nonce bigint NOT NULL,
  first integer,
  final integer NOT NULL DEFAULT 0,
  UNIQUE (gateway, counter, nonce)
);

-- The audit base. minute: Unix time in minutes. The ids are those of the
-- tables above; a foreign key would be looked up for every row of a batch.
CREATE TABLE metering_cell (
  value bigint NOT NULL CHECK (value >= 0),
  minute integer NOT NULL,
  meter integer NOT NULL,
  series integer NOT NULL,
  epoch integer NOT NULL,
  PRIMARY KEY (minute, meter, series, epoch)
) WITH (fillfactor = 80);

-- Each says that its minute, and every one before it, is complete.
CREATE TABLE metering_seal (
  epoch integer NOT NULL REFERENCES metering_epoch,
  minute integer NOT NULL,
  PRIMARY KEY (epoch, minute)
);

-- Usage measured elsewhere. at and recorded: Unix microseconds.
CREATE TABLE metering_event (
  source text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  hash bytea NOT NULL,
  minute integer NOT NULL,
  meter integer NOT NULL REFERENCES metering_meter,
  series integer NOT NULL REFERENCES metering_series,
  value bigint NOT NULL CHECK (value >= 0),
  at bigint NOT NULL,
  recorded bigint NOT NULL,
  PRIMARY KEY (source, id)
);
CREATE INDEX metering_event_minute ON metering_event (minute, meter, series);

-- event_source and event_id: the event that is corrected, if it is one.
CREATE TABLE metering_adjustment (
  id text COLLATE "C" NOT NULL PRIMARY KEY,
  hash bytea NOT NULL,
  minute integer NOT NULL,
  meter integer NOT NULL REFERENCES metering_meter,
  series integer NOT NULL REFERENCES metering_series,
  value bigint NOT NULL,
  reason text NOT NULL,
  approver text NOT NULL,
  event_source text NOT NULL,
  event_id text NOT NULL,
  recorded bigint NOT NULL
);
CREATE INDEX metering_adjustment_minute ON metering_adjustment (minute, meter, series);

CREATE TABLE metering_reject (
  day integer NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL,
  n bigint NOT NULL,
  PRIMARY KEY (day, tenant, reason)
);

-- Sums of cells, events and adjustments by UTC hour and day, as
-- hi * 2^32 + lo, so that no sum of 64-bit values overflows. The triggers
-- below change them by the difference that a statement makes to the base, in
-- its transaction: what changes no base row changes no sum.
CREATE TABLE metering_hour (
  hi bigint NOT NULL,
  lo bigint NOT NULL,
  hour integer NOT NULL,
  meter integer NOT NULL,
  series integer NOT NULL,
  PRIMARY KEY (hour, meter, series)
) WITH (fillfactor = 70);

CREATE TABLE metering_day (
  hi bigint NOT NULL,
  lo bigint NOT NULL,
  day integer NOT NULL,
  meter integer NOT NULL,
  series integer NOT NULL,
  PRIMARY KEY (day, meter, series)
) WITH (fillfactor = 70);

-- +goose StatementBegin
CREATE FUNCTION metering_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO metering_hour AS r (hour, meter, series, hi, lo)
    SELECT minute / 60, meter, series, sum(value >> 32), sum(value & 4294967295) FROM added GROUP BY 1, 2, 3
    ON CONFLICT (hour, meter, series) DO UPDATE SET hi = r.hi + excluded.hi, lo = r.lo + excluded.lo;
  INSERT INTO metering_day AS r (day, meter, series, hi, lo)
    SELECT minute / 1440, meter, series, sum(value >> 32), sum(value & 4294967295) FROM added GROUP BY 1, 2, 3
    ON CONFLICT (day, meter, series) DO UPDATE SET hi = r.hi + excluded.hi, lo = r.lo + excluded.lo;
  RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION metering_grown() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO metering_hour AS r (hour, meter, series, hi, lo)
    SELECT minute / 60, meter, series, sum(hi), sum(lo) FROM (
      SELECT minute, meter, series, value >> 32 AS hi, value & 4294967295 AS lo FROM after
      UNION ALL SELECT minute, meter, series, -(value >> 32), -(value & 4294967295) FROM before
    ) change GROUP BY 1, 2, 3
    ON CONFLICT (hour, meter, series) DO UPDATE SET hi = r.hi + excluded.hi, lo = r.lo + excluded.lo;
  INSERT INTO metering_day AS r (day, meter, series, hi, lo)
    SELECT minute / 1440, meter, series, sum(hi), sum(lo) FROM (
      SELECT minute, meter, series, value >> 32 AS hi, value & 4294967295 AS lo FROM after
      UNION ALL SELECT minute, meter, series, -(value >> 32), -(value & 4294967295) FROM before
    ) change GROUP BY 1, 2, 3
    ON CONFLICT (day, meter, series) DO UPDATE SET hi = r.hi + excluded.hi, lo = r.lo + excluded.lo;
  RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER metering_cell_new AFTER INSERT ON metering_cell
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION metering_added();
CREATE TRIGGER metering_cell_grown AFTER UPDATE ON metering_cell
  REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION metering_grown();
CREATE TRIGGER metering_event_new AFTER INSERT ON metering_event
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION metering_added();
CREATE TRIGGER metering_adjustment_new AFTER INSERT ON metering_adjustment
  REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION metering_added();

-- What was recorded stays as it was.
-- +goose StatementBegin
CREATE FUNCTION metering_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'rows of % are kept', TG_TABLE_NAME;
END $$;
-- +goose StatementEnd
CREATE TRIGGER metering_cell_stays BEFORE DELETE OR TRUNCATE ON metering_cell
  FOR EACH STATEMENT EXECUTE FUNCTION metering_kept();
CREATE TRIGGER metering_event_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON metering_event
  FOR EACH STATEMENT EXECUTE FUNCTION metering_kept();
CREATE TRIGGER metering_adjustment_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON metering_adjustment
  FOR EACH STATEMENT EXECUTE FUNCTION metering_kept();
