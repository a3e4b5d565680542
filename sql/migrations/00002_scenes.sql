-- +goose Up
-- The pool of scene IDs. While it lives, a login is its scene's row; afterwards the row
-- keeps what was, until the next claim.
CREATE TABLE scanlogin.scene (
    id         integer PRIMARY KEY,
    login      uuid,                                 -- who holds it: the fence of every write
    state      text NOT NULL DEFAULT 'expired'
               CHECK (state IN ('waiting', 'authenticated', 'bind_required', 'completed', 'expired')),
    ticket     text NOT NULL DEFAULT '',             -- WeChat's, of the code that is shown
    url        text NOT NULL DEFAULT '',             -- what the code draws
    openid     text,                                 -- who scanned
    account_id bigint,                               -- whose account that was, when it was scanned
    watchers   integer NOT NULL DEFAULT 0,           -- open streams, over all instances; after a crash too high, never too low
    expires_at timestamptz NOT NULL DEFAULT 'epoch'  -- when the login ends, or ended
) WITH (
    -- Room on the page, and no index on what a claim changes: then a claim is a HOT
    -- update, which keeps the table small and the WAL short.
    fillfactor = 70
);

-- The ring: claims walk the scenes in order, so the one that comes next is the one that
-- was claimed longest ago. Its MAXVALUE is the size of the pool, for all instances.
-- 0 is no scene: a sequence has two values at least, a pool may have one.
CREATE SEQUENCE scanlogin.scene_ring AS integer MINVALUE 0 MAXVALUE 1 CYCLE;
INSERT INTO scanlogin.scene (id) VALUES (1);

-- resize_pool makes the pool 1..size. A scene that is held while the pool shrinks stays
-- until its login has ended; the next call removes it.
-- +goose StatementBegin
CREATE FUNCTION scanlogin.resize_pool(size integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    had bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('scanlogin.resize_pool', 0));
    SELECT seqmax INTO STRICT had FROM pg_sequence WHERE seqrelid = 'scanlogin.scene_ring'::regclass;
    IF size > had THEN
        INSERT INTO scanlogin.scene (id) SELECT generate_series(had + 1, size) ON CONFLICT DO NOTHING;
        -- Last, because it makes claims wait until we commit.
        EXECUTE format('ALTER SEQUENCE scanlogin.scene_ring MAXVALUE %s', size);
    ELSIF size < had THEN
        EXECUTE format('ALTER SEQUENCE scanlogin.scene_ring MAXVALUE %s RESTART WITH 0', size);
    END IF;
    DELETE FROM scanlogin.scene WHERE id > size AND expires_at <= now();
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION scanlogin.resize_pool(integer);
DROP SEQUENCE scanlogin.scene_ring;
DROP TABLE scanlogin.scene;
