-- +goose Up
SET LOCAL lock_timeout = '5s';

-- What has happened, for whoever has to find out later. Rows are only ever added. A row of
-- something that was done is written by the statement that did it: neither is there without
-- the other. What was refused is written a moment later, and what one address repeats within
-- a minute is one row.
CREATE TABLE scanlogin.audit (
    at         timestamptz NOT NULL DEFAULT now(),
    id         bigint GENERATED ALWAYS AS IDENTITY,
    kind       text NOT NULL,               -- internal/audit lists them
    detail     text NOT NULL DEFAULT '',    -- how, or what came of it
    login      uuid,                        -- of which attempt; it opens nothing
    account_id bigint,
    account    text,                        -- its name at that time
    person     text,                        -- the WeChat user, see scanlogin.person
    address    inet,                        -- of the browser; NULL for what comes by way of WeChat
    browser    text NOT NULL DEFAULT '',    -- its User-Agent; of a scan, the browser that shows the code
    place      text NOT NULL DEFAULT '',    -- where that is, as a proxy of ours said
    instance   text NOT NULL,               -- who wrote it
    times      integer NOT NULL DEFAULT 1,
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);

-- For the months that nobody has made a partition for in time.
CREATE TABLE scanlogin.audit_rest PARTITION OF scanlogin.audit DEFAULT;

-- person names a WeChat user in the audit log without the openid: the same one each time,
-- and nobody gets from it to the openid, which is random. What stands behind the AppID says
-- whose users the ties are of, and is nothing of the person's.
-- +goose StatementBegin
CREATE FUNCTION scanlogin.person(appid text, openid text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT encode(substr(sha256(convert_to(split_part(appid, ' ', 1) || ' ' || openid, 'UTF8')), 1, 8), 'hex')
$$;
-- +goose StatementEnd

-- keep_audit makes the partitions of this month and the next two, and drops those of which
-- every row is older than keep. It returns how many it has dropped.
--
-- It runs as the owner of the table, so that the service needs no right to remove anything:
-- half a year is left whatever it asks for. Whoever takes over the service can't take the
-- traces along.
--
-- To drop a partition is to wait for who reads the log, with every login waiting behind us:
-- hence not for long. The next call tries again.
-- +goose StatementBegin
CREATE FUNCTION scanlogin.keep_audit(keep interval) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '500ms' AS $$
DECLARE
    until   timestamptz := now() - greatest(keep, interval '180 days');
    month   timestamptz;
    part    text;
    dropped integer := 0;
BEGIN
    FOR n IN 0 .. 2 LOOP
        month := date_trunc('month', now()) + n * interval '1 month';
        part := to_char(month, '"audit_"YYYY_MM');
        -- A month that has begun without a partition ends without one.
        CONTINUE WHEN to_regclass('scanlogin.' || part) IS NOT NULL
            OR EXISTS (SELECT FROM scanlogin.audit_rest r WHERE r.at >= month AND r.at < month + interval '1 month');
        -- To attach one holds up nobody who writes to another.
        EXECUTE format('CREATE TABLE scanlogin.%I (LIKE scanlogin.audit INCLUDING DEFAULTS)', part);
        EXECUTE format('ALTER TABLE scanlogin.audit ATTACH PARTITION scanlogin.%I FOR VALUES FROM (%L) TO (%L)',
            part, month, month + interval '1 month');
    END LOOP;
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'scanlogin.audit'::regclass AND c.relname ~ '^audit_\d{4}_\d\d$'
            AND to_timestamp(c.relname, '"audit_"YYYY_MM') + interval '1 month' <= until
    LOOP
        EXECUTE format('DROP TABLE scanlogin.%I', part);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM scanlogin.audit_rest r WHERE r.at < until;
    RETURN dropped;
END
$$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION scanlogin.keep_audit(interval) FROM PUBLIC;
SELECT scanlogin.keep_audit('400 days');

-- +goose Down
DROP FUNCTION scanlogin.keep_audit(interval);
DROP FUNCTION scanlogin.person(text, text);
DROP TABLE scanlogin.audit;
