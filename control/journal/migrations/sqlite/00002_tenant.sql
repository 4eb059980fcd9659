-- +goose Up
-- A tenant's resources by what changed last.
CREATE INDEX resources_tenant ON resources (kind, tenant, revision, id);

-- +goose Down
DROP INDEX resources_tenant;
