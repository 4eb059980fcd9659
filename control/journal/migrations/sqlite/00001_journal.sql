-- +goose Up
CREATE TABLE events (
  seq       INTEGER PRIMARY KEY,
  at        INTEGER NOT NULL,
  actor     TEXT NOT NULL,
  kind      TEXT NOT NULL,
  tenant    TEXT NOT NULL,
  subject   TEXT NOT NULL,
  body      BLOB NOT NULL,
  prev_hash BLOB NOT NULL,
  hash      BLOB NOT NULL
) STRICT;
CREATE INDEX events_tenant ON events (tenant, seq);
CREATE INDEX events_actor ON events (actor, seq);
CREATE INDEX events_kind ON events (kind, seq);

-- head repeats the last event's place, so that a cut tail shows.
CREATE TABLE head (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  seq  INTEGER NOT NULL,
  at   INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, 0, zeroblob(32));

-- From here on everything is the fold of events.
CREATE TABLE resources (
  kind     TEXT NOT NULL,
  tenant   TEXT NOT NULL,
  id       TEXT NOT NULL,
  revision INTEGER NOT NULL,
  created  INTEGER NOT NULL,
  updated  INTEGER NOT NULL,
  body     BLOB NOT NULL,
  PRIMARY KEY (kind, tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX resources_revision ON resources (kind, revision, tenant, id);

-- touched finds the events of a resource.
CREATE TABLE touched (
  kind   TEXT NOT NULL,
  tenant TEXT NOT NULL,
  id     TEXT NOT NULL,
  seq    INTEGER NOT NULL,
  PRIMARY KEY (kind, tenant, id, seq)
) STRICT, WITHOUT ROWID;

-- fields finds resources by what is in them.
CREATE TABLE fields (
  kind   TEXT NOT NULL,
  name   TEXT NOT NULL,
  value  TEXT NOT NULL,
  tenant TEXT NOT NULL,
  id     TEXT NOT NULL,
  PRIMARY KEY (kind, name, value, tenant, id)
) STRICT, WITHOUT ROWID;

-- settings holds the definition of the fields as they were built.
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- replays holds the idempotency keys of the last day.
CREATE TABLE replays (
  actor   TEXT NOT NULL,
  key     TEXT NOT NULL,
  request TEXT NOT NULL,
  seq     INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (actor, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX replays_at ON replays (at);

-- +goose Down
DROP TABLE replays;
DROP TABLE settings;
DROP TABLE fields;
DROP TABLE touched;
DROP TABLE resources;
DROP TABLE head;
DROP TABLE events;
