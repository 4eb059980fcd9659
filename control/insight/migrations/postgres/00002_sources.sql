-- +goose Up
-- The number of the last minute that a source has added. A source is one life
-- of a data plane's process; seen is in Unix seconds.
CREATE TABLE insight_source (
    gateway text COLLATE "C" NOT NULL,
    epoch   text COLLATE "C" NOT NULL,
    last    bigint NOT NULL,
    seen    bigint NOT NULL,
    PRIMARY KEY (gateway, epoch)
);

-- +goose Down
DROP TABLE insight_source;
