-- +goose Up
-- The service resizes the pool without owning it: see sql/grants.sql.
ALTER FUNCTION scanlogin.resize_pool(integer) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION scanlogin.resize_pool(integer) FROM PUBLIC;

-- +goose Down
GRANT EXECUTE ON FUNCTION scanlogin.resize_pool(integer) TO PUBLIC;
ALTER FUNCTION scanlogin.resize_pool(integer) SECURITY INVOKER RESET search_path;
