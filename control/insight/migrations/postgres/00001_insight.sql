-- +goose Up
-- What requests came to within span seconds from at, which is in Unix seconds.
CREATE TABLE insight_series (
    tenant    text     COLLATE "C" NOT NULL,
    span      integer  NOT NULL,
    at        bigint   NOT NULL,
    route     text     COLLATE "C" NOT NULL,
    method    text     COLLATE "C" NOT NULL,
    class     smallint NOT NULL,
    requests  bigint   NOT NULL,
    denied    bigint   NOT NULL,
    limited   bigint   NOT NULL,
    bytes_in  bigint   NOT NULL,
    bytes_out bigint   NOT NULL,
    times     bytea    NOT NULL,
    PRIMARY KEY (tenant, span, at, route, method, class)
);
CREATE INDEX insight_series_age ON insight_series (span, at);

-- +goose Down
DROP TABLE insight_series;
