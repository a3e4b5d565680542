-- name: Claim :many
-- One step of the ring for each login. No row for a login: that scene is held, resting, or
-- being claimed right now; or the ring is so small that another of these logins has it.
-- A volatile nextval in a subquery runs once for each row of that; as a condition on the
-- scene it would run for every row of the table.
-- A ticket made ahead is taken along where it outlives the claim and was stored on this
-- timeline, and shown to nobody else.
-- A scene is looked up once, and then locked where it lies: its ctid stays for as long.
-- (sqlc knows no ctid but one that is cast.)
-- The LIMIT is what there is. It makes the planner expect one login instead of ten: the plan
-- for any number then finds scenes by their key, and is kept instead of made anew each time.
WITH step AS MATERIALIZED (
    SELECT w.login, w.ttl, w.rest, nextval('scanlogin.scene_ring') AS scene
    FROM (
        SELECT unnest(@logins::uuid[]) AS login, unnest(@ttls::interval[]) AS ttl, unnest(@rests::interval[]) AS rest
        LIMIT cardinality(@logins::uuid[])
    ) w
)
UPDATE scanlogin.scene s
SET login = free.login, state = 'waiting', openid = NULL, account_id = NULL, place = '', browser = NULL,
    ticket = CASE WHEN s.ready_until >= free.until AND s.ready_timeline = free.timeline THEN s.ready_ticket ELSE '' END,
    url = CASE WHEN s.ready_until >= free.until AND s.ready_timeline = free.timeline THEN s.ready_url ELSE '' END,
    ready_ticket = '', ready_url = '', ready_until = 'epoch',
    watchers = 1, expires_at = free.until
FROM (
    SELECT step.login, f.at, now() + step.ttl AS until, scanlogin.timeline() AS timeline
    FROM step CROSS JOIN LATERAL (
        SELECT ctid::tid AS at FROM scanlogin.scene
        WHERE id = step.scene AND expires_at <= now() - step.rest
        FOR UPDATE SKIP LOCKED
    ) f
) free
WHERE s.ctid = free.at
RETURNING free.login::uuid AS login, s.id, s.ticket, s.url;

-- name: SetTicket :execrows
UPDATE scanlogin.scene SET ticket = @ticket, url = @url
WHERE id = @id AND login = @login::uuid AND state = 'waiting' AND expires_at > now();

-- name: SetOrigin :exec
UPDATE scanlogin.scene SET place = @place, browser = nullif(@browser::text, '')
WHERE id = @id AND login = @login::uuid AND state = 'waiting';

-- name: OriginOf :one
SELECT place, coalesce(browser, '')::text AS browser FROM scanlogin.scene WHERE id = @id AND ticket = @ticket AND ticket <> '';

-- name: Abandon :exec
-- Nobody has seen this code, so the scene needs no rest.
UPDATE scanlogin.scene SET state = 'expired', expires_at = 'epoch'
WHERE id = @id AND login = @login::uuid AND state = 'waiting';

-- name: Ring :one
-- The value that the ring gave last, and how many values it has.
SELECT scanlogin.ring_position() AS position, (seqmax + 1)::bigint AS size
FROM pg_catalog.pg_sequence WHERE seqrelid = 'scanlogin.scene_ring'::regclass;

-- name: Bare :many
-- Of the next n scenes of the ring those whose ready ticket is missing, too old or of
-- another timeline, nearest first.
SELECT s.id
FROM generate_series(1, sqlc.arg(n)::bigint) AS step
JOIN scanlogin.scene s ON s.id = mod(sqlc.arg(position)::bigint + step, sqlc.arg(size)::bigint)
WHERE s.ready_until < now() + @fresh::interval OR s.ready_timeline <> (SELECT scanlogin.timeline())
ORDER BY step;

-- name: Prepare :exec
-- Only where there is still none that a claim would show: what another put there may have
-- been claimed and shown.
UPDATE scanlogin.scene
SET ready_ticket = @ticket, ready_url = @url, ready_until = now() + @ttl::interval, ready_timeline = scanlogin.timeline()
WHERE id = @id AND (ready_until < now() + @fresh::interval OR ready_timeline <> (SELECT scanlogin.timeline()));

-- name: Join :many
-- One more watcher for each entry, however often a login is among them. Rows are locked as
-- in Leave; the LIMIT is as in Claim.
WITH come AS (
    SELECT u.id, u.login, count(*)::int AS streams
    FROM (
        SELECT unnest(@ids::integer[]) AS id, unnest(@logins::uuid[]) AS login
        LIMIT cardinality(@ids::integer[])
    ) u
    GROUP BY u.id, u.login
), held AS (
    SELECT s.id, come.streams
    FROM scanlogin.scene s JOIN come ON s.id = come.id AND s.login = come.login
    WHERE s.state NOT IN ('completed', 'declined', 'expired') AND s.expires_at > now()
    ORDER BY s.id FOR UPDATE OF s
)
UPDATE scanlogin.scene s SET watchers = s.watchers + held.streams
FROM held WHERE s.id = held.id
RETURNING s.id, s.login::uuid AS login, s.state, s.ticket, s.url, extract(epoch FROM s.expires_at - now())::float8 AS expires_in;

-- name: Leave :exec
-- Rows are locked in the order of their ids: two instances that leave the same logins
-- wait for each other, instead of for ever.
WITH gone AS (
    SELECT u.id, u.login, count(*)::int AS streams
    FROM (SELECT unnest(@ids::integer[]) AS id, unnest(@logins::uuid[]) AS login) u
    GROUP BY u.id, u.login
), held AS (
    SELECT s.id, gone.streams
    FROM scanlogin.scene s JOIN gone ON s.id = gone.id AND s.login = gone.login
    WHERE s.state = 'waiting' AND s.expires_at > now()
    ORDER BY s.id FOR UPDATE OF s
)
UPDATE scanlogin.scene s
SET watchers = s.watchers - held.streams,
    state = CASE WHEN s.watchers > held.streams THEN s.state ELSE 'expired' END,
    expires_at = CASE WHEN s.watchers > held.streams THEN s.expires_at ELSE now() END
FROM held WHERE s.id = held.id;

-- name: Look :many
-- Of these, the logins whose state is no longer what their streams were told. One that
-- is out of time, or that lost its scene, has expired. The LIMIT is as in Claim.
SELECT l.id, l.login, l.state, l.ticket, l.url, l.expires_in
FROM (
    SELECT w.id::integer AS id, w.login::uuid AS login, w.seen,
        (CASE WHEN s.state IN ('completed', 'declined') OR s.expires_at > now() THEN s.state ELSE 'expired' END)::text AS state,
        coalesce(s.ticket, '')::text AS ticket, coalesce(s.url, '')::text AS url,
        greatest(extract(epoch FROM s.expires_at - now()), 0)::float8 AS expires_in
    FROM (
        SELECT unnest(@ids::integer[]) AS id, unnest(@logins::uuid[]) AS login, unnest(@seen::text[]) AS seen
        LIMIT cardinality(@ids::integer[])
    ) w
    LEFT JOIN scanlogin.scene s ON s.id = w.id AND s.login = w.login
) l
WHERE l.state <> l.seen;

-- name: Scan :one
-- The scan counts for the login that holds this scene with this ticket now, once. What is
-- answered is kept with it, for when WeChat pushes the same once more.
WITH hit AS (
    UPDATE scanlogin.scene s
    SET state = CASE WHEN t.account_id IS NULL THEN 'bind_required' ELSE 'authenticated' END,
        openid = @openid::text, account_id = t.account_id, expires_at = now() + @bind_ttl::interval
    FROM (
        SELECT (SELECT i.account_id FROM scanlogin.wechat_identity i
                WHERE i.appid = @appid AND i.openid = @openid::text) AS account_id
    ) t
    WHERE s.id = @id AND s.ticket = @ticket AND s.ticket <> '' AND s.state = 'waiting' AND s.expires_at > now()
    RETURNING s.login, (s.account_id IS NOT NULL)::bool AS known, s.account_id, s.place, s.browser
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT @push::bytea, CASE WHEN hit.known THEN 'logged_in' ELSE 'must_bind' END FROM hit
    WHERE length(@push::bytea) > 0
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, browser, place, instance)
    SELECT 'scan', CASE WHEN hit.known THEN 'logged_in' ELSE 'must_bind' END, hit.login, a.id, a.shown_name,
        scanlogin.person(@appid, @openid::text), coalesce(hit.browser, ''), hit.place, @instance
    FROM hit LEFT JOIN scanlogin.account a ON a.id = hit.account_id
)
SELECT login, known FROM hit;

-- name: Scanned :one
-- What an earlier scan of the same code led to.
SELECT login, (account_id IS NOT NULL)::bool AS known, (openid = @openid::text)::bool AS same
FROM scanlogin.scene
WHERE id = @id AND ticket = @ticket AND openid IS NOT NULL
    AND (state = 'completed' OR state <> 'expired' AND expires_at > now());

-- name: AccountOf :one
-- Whose a login is that can be completed.
SELECT coalesce(account_id, 0)::bigint AS account_id FROM scanlogin.scene
WHERE id = @id AND login = @login::uuid AND state = 'authenticated' AND expires_at > now();

-- name: Complete :execrows
-- The tie is looked at once more: it may have been removed since the scan. It is locked,
-- so that who removes it and ends the sessions sees ours, or we see that it is gone. The
-- session that the browser had before ends here, as in CreateSession.
WITH tie AS (
    SELECT i.account_id, i.openid
    FROM scanlogin.scene h JOIN scanlogin.wechat_identity i ON i.openid = h.openid AND i.account_id = h.account_id
    WHERE h.id = @id AND h.login = @login::uuid AND h.state = 'authenticated' AND i.appid = @appid
    FOR SHARE OF i
), done AS (
    UPDATE scanlogin.scene s SET state = 'completed', expires_at = now()
    FROM tie
    WHERE s.id = @id AND s.login = @login::uuid AND s.state = 'authenticated' AND s.expires_at > now()
        AND s.openid = tie.openid AND s.account_id = tie.account_id
    RETURNING tie.account_id, tie.openid
), replaced AS (
    DELETE FROM scanlogin.web_session w USING done WHERE w.token_hash = @replaces
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT 'login', 'scan', @login::uuid, a.id, a.shown_name, scanlogin.person(@appid, done.openid), @address::inet, @browser, @place, @instance
    FROM done JOIN scanlogin.account a ON a.id = done.account_id
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT @token_hash, account_id, now(), now() + @session_ttl::interval, @browser, @place FROM done;

-- name: Bind :execrows
-- No row: nothing to bind, or the WeChat user has another account by now; the caller
-- must roll back then.
WITH bound AS (
    UPDATE scanlogin.scene s SET state = 'completed', expires_at = now()
    WHERE s.id = @id AND s.login = @login::uuid AND s.state = 'bind_required' AND s.expires_at > now()
    RETURNING s.openid
), tie AS (
    INSERT INTO scanlogin.wechat_identity AS i (appid, openid, account_id)
    SELECT @appid, openid, @account_id FROM bound
    ON CONFLICT (appid, openid) DO UPDATE SET account_id = i.account_id WHERE i.account_id = excluded.account_id
    RETURNING i.account_id, i.openid
), replaced AS (
    DELETE FROM scanlogin.web_session w USING tie WHERE w.token_hash = @replaces
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT e.kind, e.detail, @login::uuid, a.id, a.shown_name, scanlogin.person(@appid, tie.openid), @address::inet, @browser, @place, @instance
    FROM tie JOIN scanlogin.account a ON a.id = tie.account_id CROSS JOIN (VALUES ('bind', ''), ('login', 'bind')) e (kind, detail)
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT @token_hash, account_id, now(), now() + @session_ttl::interval, @browser, @place FROM tie;

-- name: ResizePool :exec
SELECT scanlogin.resize_pool(@size);

-- name: Notify :exec
-- One NOTIFY for each payload.
SELECT pg_notify(@channel::text, payload) FROM unnest(@payloads::text[]) AS payload;
