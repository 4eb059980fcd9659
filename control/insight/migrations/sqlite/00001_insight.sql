-- +goose Up
-- What requests came to within span seconds from at, which is in Unix seconds.
CREATE TABLE insight_series (
    tenant    TEXT    NOT NULL,
    span      INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    route     TEXT    NOT NULL,
    method    TEXT    NOT NULL,
    class     INTEGER NOT NULL,
    requests  INTEGER NOT NULL,
    denied    INTEGER NOT NULL,
    limited   INTEGER NOT NULL,
    bytes_in  INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    times     BLOB    NOT NULL,
    PRIMARY KEY (tenant, span, at, route, method, class)
) STRICT, WITHOUT ROWID;
CREATE INDEX insight_series_age ON insight_series (span, at);

-- +goose Down
DROP TABLE insight_series;
