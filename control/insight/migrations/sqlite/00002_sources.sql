-- +goose Up
-- The number of the last minute that a source has added. A source is one life
-- of a data plane's process; seen is in Unix seconds.
CREATE TABLE insight_source (
    gateway TEXT NOT NULL,
    epoch   TEXT NOT NULL,
    last    INTEGER NOT NULL,
    seen    INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE insight_source;
