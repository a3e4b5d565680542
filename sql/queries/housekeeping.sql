-- name: RemoveSessions :execrows
-- At most so many, found by the index and never waited for. What was found is locked, so
-- it is still there under its ctid: no plan has to look for it again.
DELETE FROM scanlogin.web_session WHERE ctid = ANY (ARRAY(
    SELECT s.ctid FROM scanlogin.web_session s
    WHERE s.expires_at <= now()
    ORDER BY s.expires_at LIMIT @most FOR UPDATE SKIP LOCKED
));

-- name: RemoveIdleSessions :one
-- The next so many sessions in the order of their keys, less those that nobody uses any
-- more. There is no index on when they were seen: each would cost more to keep, with every
-- session that is used, than to walk through all of them once in a while.
WITH looked AS MATERIALIZED (
    SELECT s.token_hash, s.seen_at FROM scanlogin.web_session s
    WHERE s.token_hash > coalesce(@after::bytea, '') ORDER BY s.token_hash LIMIT @most
), gone AS (
    DELETE FROM scanlogin.web_session WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM scanlogin.web_session s
        WHERE s.token_hash = ANY (ARRAY(SELECT l.token_hash FROM looked l WHERE l.seen_at <= now() - @idle::interval))
            AND s.seen_at <= now() - @idle::interval
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING token_hash
)
SELECT (SELECT count(*) FROM gone) AS removed, count(*) AS looked_at,
    coalesce((SELECT l.token_hash FROM looked l ORDER BY l.token_hash DESC LIMIT 1), '')::bytea AS last
FROM looked;

-- name: RemovePushes :execrows
-- The same, for replies that are older than what can be pushed again.
DELETE FROM scanlogin.wechat_push WHERE ctid = ANY (ARRAY(
    SELECT p.ctid FROM scanlogin.wechat_push p
    WHERE p.created_at < now() - @keep::interval
    ORDER BY p.created_at LIMIT @most FOR UPDATE SKIP LOCKED
));

-- name: RemoveCodes :execrows
-- A row a day needs no index: last year's count is for whoever reads the table.
DELETE FROM scanlogin.wechat_codes WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM scanlogin.wechat_codes c
    WHERE c.day < (now() AT TIME ZONE 'Asia/Shanghai')::date - 366
    LIMIT @most FOR UPDATE SKIP LOCKED
));

-- name: RemoveConfirmations :execrows
-- The same, for what nobody has answered in time.
DELETE FROM scanlogin.confirmation WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM scanlogin.confirmation c
    WHERE c.expires_at <= now()
    ORDER BY c.expires_at LIMIT @most FOR UPDATE SKIP LOCKED
));

-- name: ForgetLogins :many
-- A scene keeps what its last login was until the next claim; in a large pool that is
-- long. After a day nobody asks any more, and who scanned, from where, is nobody's
-- business. Whoever claims the scene sees no difference: when it is free, and what lies
-- ready for it, stays.
UPDATE scanlogin.scene s
SET openid = NULL, account_id = NULL, place = '', browser = NULL, ticket = '', url = ''
FROM (
    SELECT f.id FROM scanlogin.scene f
    WHERE f.id > @after AND f.expires_at < now() - interval '1 day'
        AND (f.openid IS NOT NULL OR f.account_id IS NOT NULL OR f.place <> '' OR f.browser IS NOT NULL OR f.ticket <> '' OR f.url <> '')
    ORDER BY f.id LIMIT @most FOR UPDATE SKIP LOCKED
) ended
WHERE s.id = ended.id
RETURNING s.id;

-- name: RemoveNotices :execrows
-- Those which nobody has come to read.
DELETE FROM scanlogin.notice WHERE ctid = ANY (ARRAY(
    SELECT n.ctid FROM scanlogin.notice n
    WHERE n.at < now() - @keep::interval
    ORDER BY n.at LIMIT @most FOR UPDATE SKIP LOCKED
));

-- name: KeepAudit :one
-- The migration tells what it does.
SELECT scanlogin.keep_audit(@keep::interval)::integer AS dropped;
