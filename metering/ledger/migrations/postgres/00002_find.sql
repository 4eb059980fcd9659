-- +goose Up
-- What a tenant used is found from here: by series the days, in a day the
-- hours, in an hour the minutes. Bit n says that there may be usage in the
-- n-th of them. Rows from before have all bits: everything is looked up.
ALTER TABLE metering_hour ADD COLUMN minutes bigint NOT NULL DEFAULT 1152921504606846975;
ALTER TABLE metering_day ADD COLUMN hours integer NOT NULL DEFAULT 16777215;

-- It grows with days, not with cells, and no update touches what it is of.
CREATE INDEX metering_day_series ON metering_day (series, day);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION metering_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO metering_hour AS r (hour, meter, series, hi, lo, minutes)
    SELECT minute / 60, meter, series, sum(value >> 32), sum(value & 4294967295), bit_or(1::bigint << (minute % 60)) FROM added GROUP BY 1, 2, 3
    ON CONFLICT (hour, meter, series) DO UPDATE SET hi = r.hi + excluded.hi, lo = r.lo + excluded.lo, minutes = r.minutes | excluded.minutes;
  INSERT INTO metering_day AS r (day, meter, series, hi, lo, hours)
    SELECT minute / 1440, meter, series, sum(value >> 32), sum(value & 4294967295), bit_or(1 << (minute / 60 % 24)) FROM added GROUP BY 1, 2, 3
    ON CONFLICT (day, meter, series) DO UPDATE SET hi = r.hi + excluded.hi, lo = r.lo + excluded.lo, hours = r.hours | excluded.hours;
  RETURN NULL;
END $$;
-- +goose StatementEnd
