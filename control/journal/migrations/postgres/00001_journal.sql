-- +goose Up
-- COLLATE "C": order is that of the bytes, as in SQLite, whatever the database's locale.
CREATE TABLE events (
  seq       bigint PRIMARY KEY,
  at        bigint NOT NULL,
  actor     text COLLATE "C" NOT NULL,
  kind      text COLLATE "C" NOT NULL,
  tenant    text COLLATE "C" NOT NULL,
  subject   text COLLATE "C" NOT NULL,
  body      bytea NOT NULL,
  prev_hash bytea NOT NULL,
  hash      bytea NOT NULL
);
CREATE INDEX events_tenant ON events (tenant, seq);
CREATE INDEX events_actor ON events (actor, seq);
CREATE INDEX events_kind ON events (kind, seq);

-- head repeats the last event's place, so that a cut tail shows.
CREATE TABLE head (
  one  integer PRIMARY KEY CHECK (one = 1),
  seq  bigint NOT NULL,
  at   bigint NOT NULL,
  hash bytea NOT NULL
);
INSERT INTO head VALUES (1, 0, 0, decode(repeat('00', 32), 'hex'));

-- From here on everything is the fold of events.
CREATE TABLE resources (
  kind     text COLLATE "C" NOT NULL,
  tenant   text COLLATE "C" NOT NULL,
  id       text COLLATE "C" NOT NULL,
  revision bigint NOT NULL,
  created  bigint NOT NULL,
  updated  bigint NOT NULL,
  body     bytea NOT NULL,
  PRIMARY KEY (kind, tenant, id)
);
CREATE INDEX resources_revision ON resources (kind, revision, tenant, id);

-- touched finds the events of a resource.
CREATE TABLE touched (
  kind   text COLLATE "C" NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  id     text COLLATE "C" NOT NULL,
  seq    bigint NOT NULL,
  PRIMARY KEY (kind, tenant, id, seq)
);

-- fields finds resources by what is in them.
CREATE TABLE fields (
  kind   text COLLATE "C" NOT NULL,
  name   text COLLATE "C" NOT NULL,
  value  text COLLATE "C" NOT NULL,
  tenant text COLLATE "C" NOT NULL,
  id     text COLLATE "C" NOT NULL,
  PRIMARY KEY (kind, name, value, tenant, id)
);

-- settings holds the definition of the fields as they were built.
CREATE TABLE settings (name text PRIMARY KEY, value text NOT NULL);

-- replays holds the idempotency keys of the last day.
CREATE TABLE replays (
  actor   text COLLATE "C" NOT NULL,
  key     text COLLATE "C" NOT NULL,
  request text NOT NULL,
  seq     bigint NOT NULL,
  at      bigint NOT NULL,
  PRIMARY KEY (actor, key)
);
CREATE INDEX replays_at ON replays (at);

-- +goose Down
DROP TABLE replays;
DROP TABLE settings;
DROP TABLE fields;
DROP TABLE touched;
DROP TABLE resources;
DROP TABLE head;
DROP TABLE events;
