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
        -- Instances that run already have prepared their statements for a table of the
        -- old size, and would go on reading all of it where it was a small one.
        ANALYZE scanlogin.scene;
    END IF;
    -- A row that somebody holds a lock on is not worth waiting for, nor a deadlock.
    DELETE FROM scanlogin.scene WHERE id IN (
        SELECT s.id FROM scanlogin.scene s WHERE s.id > size AND s.expires_at <= now() FOR UPDATE SKIP LOCKED
    );
    -- Last, because claims wait from here until we commit.
    IF size > had THEN
        -- The new scenes are next: nobody has held them yet.
        EXECUTE format('ALTER SEQUENCE scanlogin.scene_ring MAXVALUE %s RESTART WITH %s', size, had + 1);
    ELSIF size < had THEN
        BEGIN
            EXECUTE format('ALTER SEQUENCE scanlogin.scene_ring MAXVALUE %s', size);
        EXCEPTION WHEN invalid_parameter_value THEN -- the ring has just passed there
            EXECUTE format('ALTER SEQUENCE scanlogin.scene_ring MAXVALUE %s RESTART WITH 0', size);
        END;
    END IF;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION scanlogin.resize_pool(integer);
DROP SEQUENCE scanlogin.scene_ring;
DROP TABLE scanlogin.scene;
