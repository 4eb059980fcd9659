-- +goose Up
-- What a tenant used is found from here: by series the days, in a day the
-- hours, in an hour the minutes. Bit n says that there may be usage in the
-- n-th of them. Rows from before have all bits: everything is looked up.
ALTER TABLE metering_hour ADD COLUMN minutes INTEGER NOT NULL DEFAULT 1152921504606846975;
ALTER TABLE metering_day ADD COLUMN hours INTEGER NOT NULL DEFAULT 16777215;

-- It grows with days, not with cells.
CREATE INDEX metering_day_series ON metering_day (series, day);

DROP TRIGGER metering_cell_new;
DROP TRIGGER metering_event_new;
DROP TRIGGER metering_adjustment_new;

-- +goose StatementBegin
CREATE TRIGGER metering_cell_new AFTER INSERT ON metering_cell BEGIN
  INSERT INTO metering_hour (hour, meter, series, hi, lo, minutes)
    VALUES (NEW.minute / 60, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295, 1 << (NEW.minute % 60))
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo, minutes = minutes | excluded.minutes;
  INSERT INTO metering_day (day, meter, series, hi, lo, hours)
    VALUES (NEW.minute / 1440, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295, 1 << (NEW.minute / 60 % 24))
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo, hours = hours | excluded.hours;
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER metering_event_new AFTER INSERT ON metering_event BEGIN
  INSERT INTO metering_hour (hour, meter, series, hi, lo, minutes)
    VALUES (NEW.minute / 60, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295, 1 << (NEW.minute % 60))
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo, minutes = minutes | excluded.minutes;
  INSERT INTO metering_day (day, meter, series, hi, lo, hours)
    VALUES (NEW.minute / 1440, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295, 1 << (NEW.minute / 60 % 24))
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo, hours = hours | excluded.hours;
END;
-- +goose StatementEnd

-- Adjustments are read by their own index: no bits are set for them.
-- +goose StatementBegin
CREATE TRIGGER metering_adjustment_new AFTER INSERT ON metering_adjustment BEGIN
  INSERT INTO metering_hour (hour, meter, series, hi, lo, minutes)
    VALUES (NEW.minute / 60, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295, 0)
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo;
  INSERT INTO metering_day (day, meter, series, hi, lo, hours)
    VALUES (NEW.minute / 1440, NEW.meter, NEW.series, NEW.value >> 32, NEW.value & 4294967295, 0)
    ON CONFLICT DO UPDATE SET hi = hi + excluded.hi, lo = lo + excluded.lo;
END;
-- +goose StatementEnd
