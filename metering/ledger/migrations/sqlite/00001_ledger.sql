-- +goose Up
CREATE TABLE metering_series (
  id INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  route TEXT NOT NULL,
  consumer TEXT NOT NULL,
  plan TEXT NOT NULL,
  UNIQUE (tenant, route, consumer, plan)
) STRICT;

CREATE TABLE metering_meter (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

-- retired: Unix seconds; such a gateway is not waited for any more.
CREATE TABLE metering_gateway (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  retired INTEGER
) STRICT;

-- nonce: the 64 bits as a signed number. first: the first minute with cells.
-- final: 1 if the epoch is over.
CREATE TABLE metering_epoch (
  id INTEGER PRIMARY KEY,
  gateway INTEGER NOT NULL REFERENCES metering_gateway,
  counter INTEGER NOT NULL,
  nonce INTEGER NOT NULL,
  first INTEGER,
  final INTEGER NOT NULL DEFAULT 0,
  UNIQUE (gateway, counter, nonce)
) STRICT;

-- The audit base. minute: Unix time in minutes. The key begins with it, so
-- that a batch touches few pages.
CREATE TABLE metering_cell (
  minute INTEGER NOT NULL,
  meter INTEGER NOT NULL REFERENCES metering_meter,
  series INTEGER NOT NULL REFERENCES metering_series,
  epoch INTEGER NOT NULL REFERENCES metering_epoch,
  value INTEGER NOT NULL CHECK (value >= 0),
  PRIMARY KEY (minute, meter, series, epoch)
) STRICT, WITHOUT ROWID;

-- Each says that its minute, and every one before it, is complete.
CREATE TABLE metering_seal (
  epoch INTEGER NOT NULL REFERENCES metering_epoch,
  minute INTEGER NOT NULL,
  PRIMARY KEY (epoch, minute)
) STRICT, WITHOUT ROWID;

-- Usage measured elsewhere. at and recorded: Unix microseconds.
CREATE TABLE metering_event (
  source TEXT NOT NULL,
  id TEXT NOT NULL,
  hash BLOB NOT NULL,
  minute INTEGER NOT NULL,
  meter INTEGER NOT NULL REFERENCES metering_meter,
  series INTEGER NOT NULL REFERENCES metering_series,
  value INTEGER NOT NULL CHECK (value >= 0),
  at INTEGER NOT NULL,
  recorded INTEGER NOT NULL,
  PRIMARY KEY (source, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX metering_event_minute ON metering_event (minute, meter, series, value);

-- event_source and event_id: the event that is corrected, if it is one.
CREATE TABLE metering_adjustment (
  id TEXT NOT NULL PRIMARY KEY,
  hash BLOB NOT NULL,
  minute INTEGER NOT NULL,
  meter INTEGER NOT NULL REFERENCES metering_meter,
  series INTEGER NOT NULL REFERENCES metering_series,
  value INTEGER NOT NULL,
  reason TEXT NOT NULL,
  approver TEXT NOT NULL,
  event_source TEXT NOT NULL,
  event_id TEXT NOT NULL,
  recorded INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX metering_adjustment_minute ON metering_adjustment (minute, meter, series, value);

CREATE TABLE metering_reject (
  day INTEGER NOT NULL,
  tenant TEXT NOT NULL,
  reason TEXT NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (day, tenant, reason)
) STRICT, WITHOUT ROWID;

-- Sums of cells, events and adjustments by UTC hour and day, as
-- hi * 2^32 + lo, so that no sum of 64-bit values overflows. The triggers
-- below change them by the difference that a statement makes to the base, in
-- its transaction: what changes no base row changes no sum.
CREATE TABLE metering_hour (
  hour INTEGER NOT NULL,
  meter INTEGER NOT NULL,
  series INTEGER NOT NULL,
  hi INTEGER NOT NULL,
  lo INTEGER NOT NULL,
  PRIMARY KEY (hour, meter, series)
) STRICT, WITHOUT ROWID;

CREATE TABLE metering_day (
  day INTEGER NOT NULL,
  meter INTEGER NOT NULL,
  series INTEGER NOT NULL,
  hi INTEGER NOT NULL,
  lo INTEGER NOT NULL,
  PRIMARY KEY (day, meter, series)
) STRICT, WITHOUT ROWID;

-- +goose StatementBegin
CREATE TRIGGER metering_cell_new AFTER INSERT ON metering_cell BEGIN
  INSERT INTO metering_hour VALUES (NEW.minute / 60, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295)
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo;
  INSERT INTO metering_day VALUES (NEW.minute / 1440, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295)
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER metering_cell_grown AFTER UPDATE OF value ON metering_cell BEGIN
  UPDATE metering_hour
    SET hi = hi + (NEW.value >> 32) - (OLD.value >> 32), lo = lo + (NEW.value & 4294967295) - (OLD.value & 4294967295)
    WHERE hour = NEW.minute / 60 AND meter = NEW.meter AND series = NEW.series;
  UPDATE metering_day
    SET hi = hi + (NEW.value >> 32) - (OLD.value >> 32), lo = lo + (NEW.value & 4294967295) - (OLD.value & 4294967295)
    WHERE day = NEW.minute / 1440 AND meter = NEW.meter AND series = NEW.series;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER metering_event_new AFTER INSERT ON metering_event BEGIN
  INSERT INTO metering_hour VALUES (NEW.minute / 60, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295)
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo;
  INSERT INTO metering_day VALUES (NEW.minute / 1440, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295)
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER metering_adjustment_new AFTER INSERT ON metering_adjustment BEGIN
  INSERT INTO metering_hour VALUES (NEW.minute / 60, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295)
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo;
  INSERT INTO metering_day VALUES (NEW.minute / 1440, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295)
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo;
END;
-- +goose StatementEnd

-- What was recorded stays as it was.
-- +goose StatementBegin
CREATE TRIGGER metering_cell_stays BEFORE DELETE ON metering_cell BEGIN
  SELECT RAISE(ABORT, 'cells are kept');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER metering_event_stays BEFORE DELETE ON metering_event BEGIN
  SELECT RAISE(ABORT, 'events are kept');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER metering_event_same BEFORE UPDATE ON metering_event BEGIN
  SELECT RAISE(ABORT, 'events are kept');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER metering_adjustment_stays BEFORE DELETE ON metering_adjustment BEGIN
  SELECT RAISE(ABORT, 'adjustments are kept');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER metering_adjustment_same BEFORE UPDATE ON metering_adjustment BEGIN
  SELECT RAISE(ABORT, 'adjustments are kept');
END;
-- +goose StatementEnd
