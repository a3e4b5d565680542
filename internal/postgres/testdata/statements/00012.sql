-- name: Abandon
UPDATE scanlogin.scene SET state = 'expired', expires_at = 'epoch'
WHERE id = $1 AND login = $2::uuid AND state = 'waiting';

-- name: AccountByForeignID
SELECT id, external_name, created_at FROM scanlogin.account WHERE external_id = $1::text;

-- name: AccountByName
SELECT id, name, password, password_changes, created_at FROM scanlogin.account WHERE lower(name) = lower($1);

-- name: AccountOf
SELECT coalesce(account_id, 0)::bigint AS account_id FROM scanlogin.scene
WHERE id = $1 AND login = $2::uuid AND state = 'authenticated' AND expires_at > now();

-- name: AddNotice
INSERT INTO scanlogin.notice (account_id, kind, browser, place, openids)
VALUES ($1::bigint, $2, $3, $4,
    ARRAY(SELECT i.openid FROM scanlogin.wechat_identity i WHERE i.account_id = $1::bigint));

-- name: AddWeChatAccount
INSERT INTO scanlogin.wechat_account (appid) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: Answer
WITH asked AS (
    SELECT c.login, c.scene, c.wrong + 1 AS tries, c.expires_at, (NOT $1::bool AND c.secret = $2::text) AS fits
    FROM scanlogin.confirmation c JOIN scanlogin.scene s ON s.id = c.scene AND s.login = c.login
    WHERE c.appid = $3 AND c.openid = $4::text AND (c.kind = 'reply' OR $1::bool)
        AND s.state = 'scanned' AND s.expires_at > now()
    ORDER BY s.id FOR UPDATE OF c, s
), chosen AS (
    SELECT login FROM asked WHERE fits ORDER BY expires_at DESC, login LIMIT 1
), tie AS (
    SELECT account_id FROM scanlogin.wechat_identity WHERE appid = $3 AND openid = $4::text
), judged AS (
    SELECT a.login, a.scene, (CASE
        WHEN a.login = chosen.login AND EXISTS (SELECT FROM tie) THEN 'logged_in'
        WHEN a.login = chosen.login THEN 'must_bind'
        WHEN $1::bool THEN 'declined'
        WHEN a.tries < $5::int THEN 'wrong_number'
        ELSE 'wrong_thrice' END)::text AS outcome
    FROM asked a LEFT JOIN chosen ON true
    WHERE chosen.login IS NULL OR a.login = chosen.login
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT $6::bytea, outcome FROM judged ORDER BY outcome <> 'wrong_number' LIMIT 1
    ON CONFLICT DO NOTHING
    RETURNING reply
), counted AS (
    UPDATE scanlogin.confirmation c SET wrong = c.wrong + 1
    FROM judged j, kept WHERE j.outcome = 'wrong_number' AND c.login = j.login
), moved AS (
    UPDATE scanlogin.scene s
    SET state = CASE j.outcome WHEN 'logged_in' THEN 'authenticated' WHEN 'must_bind' THEN 'bind_required' ELSE 'declined' END,
        account_id = (SELECT account_id FROM tie WHERE j.outcome = 'logged_in'),
        expires_at = CASE WHEN j.outcome IN ('logged_in', 'must_bind') THEN now() + $7::interval ELSE now() END
    FROM judged j, kept
    WHERE j.outcome <> 'wrong_number' AND s.id = j.scene AND s.login = j.login AND s.state = 'scanned' AND s.expires_at > now()
    RETURNING s.login, s.place, s.browser
), over AS (
    DELETE FROM scanlogin.confirmation c USING moved WHERE c.login = moved.login
)
SELECT kept.reply, moved.login, coalesce(moved.place, '')::text AS place, coalesce(moved.browser, '')::text AS browser
FROM kept LEFT JOIN moved ON true;

-- name: Answer
WITH asked AS (
    SELECT c.login, c.scene, c.wrong + 1 AS tries, c.expires_at, (NOT $1::bool AND c.secret = $2::text) AS fits, s.place, s.browser
    FROM scanlogin.confirmation c JOIN scanlogin.scene s ON s.id = c.scene AND s.login = c.login
    WHERE c.appid = $3 AND c.openid = $4::text AND (c.kind = 'reply' OR $1::bool)
        AND s.state = 'scanned' AND s.expires_at > now()
    ORDER BY s.id FOR UPDATE OF c, s
), chosen AS (
    SELECT login FROM asked WHERE fits ORDER BY expires_at DESC, login LIMIT 1
), tie AS (
    SELECT account_id FROM scanlogin.wechat_identity WHERE appid = $3 AND openid = $4::text
), judged AS (
    SELECT a.login, a.scene, a.place, a.browser, (CASE
        WHEN a.login = chosen.login AND EXISTS (SELECT FROM tie) THEN 'logged_in'
        WHEN a.login = chosen.login THEN 'must_bind'
        WHEN $1::bool THEN 'declined'
        WHEN a.tries < $5::int THEN 'wrong_number'
        ELSE 'wrong_thrice' END)::text AS outcome
    FROM asked a LEFT JOIN chosen ON true
    WHERE chosen.login IS NULL OR a.login = chosen.login
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT $6::bytea, outcome FROM judged ORDER BY outcome <> 'wrong_number' LIMIT 1
    ON CONFLICT DO NOTHING
    RETURNING reply
), counted AS (
    UPDATE scanlogin.confirmation c SET wrong = c.wrong + 1
    FROM judged j, kept WHERE j.outcome = 'wrong_number' AND c.login = j.login
), moved AS (
    UPDATE scanlogin.scene s
    SET state = CASE j.outcome WHEN 'logged_in' THEN 'authenticated' WHEN 'must_bind' THEN 'bind_required' ELSE 'declined' END,
        account_id = (SELECT account_id FROM tie WHERE j.outcome = 'logged_in'),
        expires_at = CASE WHEN j.outcome IN ('logged_in', 'must_bind') THEN now() + $7::interval ELSE now() END
    FROM judged j, kept
    WHERE j.outcome <> 'wrong_number' AND s.id = j.scene AND s.login = j.login AND s.state = 'scanned' AND s.expires_at > now()
    RETURNING s.login, s.place, s.browser
), over AS (
    DELETE FROM scanlogin.confirmation c USING moved WHERE c.login = moved.login
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, browser, place, instance)
    SELECT CASE WHEN j.outcome IN ('logged_in', 'must_bind') THEN 'confirm' WHEN j.outcome = 'declined' THEN 'decline' ELSE 'wrong_confirm' END,
        j.outcome, j.login, a.id, a.name, scanlogin.person($3, $4::text), coalesce(j.browser, ''), j.place, $8
    FROM judged j CROSS JOIN kept LEFT JOIN scanlogin.account a ON a.id = (SELECT account_id FROM tie)
)
SELECT kept.reply, moved.login, coalesce(moved.place, '')::text AS place, coalesce(moved.browser, '')::text AS browser
FROM kept LEFT JOIN moved ON true;

-- name: Answer
WITH asked AS (
    SELECT c.login, c.scene, c.wrong + 1 AS tries, c.expires_at, (NOT $1::bool AND c.secret = $2::text) AS fits, s.place, s.browser
    FROM scanlogin.confirmation c JOIN scanlogin.scene s ON s.id = c.scene AND s.login = c.login
    WHERE c.appid = $3 AND c.openid = $4::text AND (c.kind = 'reply' OR $1::bool)
        AND s.state = 'scanned' AND s.expires_at > now()
    ORDER BY s.id FOR UPDATE OF c, s
), chosen AS (
    SELECT login FROM asked WHERE fits ORDER BY expires_at DESC, login LIMIT 1
), tie AS (
    SELECT account_id FROM scanlogin.wechat_identity WHERE appid = $3 AND openid = $4::text
), judged AS (
    SELECT a.login, a.scene, a.place, a.browser, (CASE
        WHEN a.login = chosen.login AND EXISTS (SELECT FROM tie) THEN 'logged_in'
        WHEN a.login = chosen.login THEN 'must_bind'
        WHEN $1::bool THEN 'declined'
        WHEN a.tries < $5::int THEN 'wrong_number'
        ELSE 'wrong_thrice' END)::text AS outcome
    FROM asked a LEFT JOIN chosen ON true
    WHERE chosen.login IS NULL OR a.login = chosen.login
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT $6::bytea, outcome FROM judged ORDER BY outcome <> 'wrong_number' LIMIT 1
    ON CONFLICT DO NOTHING
    RETURNING reply
), counted AS (
    UPDATE scanlogin.confirmation c SET wrong = c.wrong + 1
    FROM judged j, kept WHERE j.outcome = 'wrong_number' AND c.login = j.login
), moved AS (
    UPDATE scanlogin.scene s
    SET state = CASE j.outcome WHEN 'logged_in' THEN 'authenticated' WHEN 'must_bind' THEN 'bind_required' ELSE 'declined' END,
        account_id = (SELECT account_id FROM tie WHERE j.outcome = 'logged_in'),
        expires_at = CASE WHEN j.outcome IN ('logged_in', 'must_bind') THEN now() + $7::interval ELSE now() END
    FROM judged j, kept
    WHERE j.outcome <> 'wrong_number' AND s.id = j.scene AND s.login = j.login AND s.state = 'scanned' AND s.expires_at > now()
    RETURNING s.login, s.place, s.browser
), over AS (
    DELETE FROM scanlogin.confirmation c USING moved WHERE c.login = moved.login
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, browser, place, instance)
    SELECT CASE WHEN j.outcome IN ('logged_in', 'must_bind') THEN 'confirm' WHEN j.outcome = 'declined' THEN 'decline' ELSE 'wrong_confirm' END,
        j.outcome, j.login, a.id, a.shown_name, scanlogin.person($3, $4::text), coalesce(j.browser, ''), j.place, $8
    FROM judged j CROSS JOIN kept LEFT JOIN scanlogin.account a ON a.id = (SELECT account_id FROM tie)
)
SELECT kept.reply, moved.login, coalesce(moved.place, '')::text AS place, coalesce(moved.browser, '')::text AS browser
FROM kept LEFT JOIN moved ON true;

-- name: Ask
WITH hit AS (
    UPDATE scanlogin.scene s
    SET state = 'scanned', openid = $1::text, account_id = NULL, expires_at = now() + $2::interval
    WHERE s.id = $3 AND s.ticket = $4 AND s.ticket <> '' AND s.state = 'waiting' AND s.expires_at > now()
    RETURNING s.id, s.login, s.expires_at
), asked AS (
    INSERT INTO scanlogin.confirmation (login, scene, appid, openid, kind, secret, expires_at)
    SELECT hit.login, hit.id, $5, $1::text, $6, free.secret, hit.expires_at
    FROM hit CROSS JOIN LATERAL (
        SELECT u.secret
        FROM (SELECT unnest($7::text[]) AS secret) u LEFT JOIN scanlogin.confirmation c
            ON c.appid = $5 AND c.openid = $1::text AND c.secret = u.secret AND c.expires_at > now()
        ORDER BY c.login IS NOT NULL LIMIT 1
    ) free
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT $8::bytea, 'to_confirm' FROM hit WHERE length($8::bytea) > 0
    ON CONFLICT DO NOTHING
)
SELECT login FROM hit;

-- name: Ask
WITH hit AS (
    UPDATE scanlogin.scene s
    SET state = 'scanned', openid = $1::text, account_id = NULL, expires_at = now() + $2::interval
    WHERE s.id = $3 AND s.ticket = $4 AND s.ticket <> '' AND s.state = 'waiting' AND s.expires_at > now()
    RETURNING s.id, s.login, s.expires_at, s.place, s.browser
), asked AS (
    INSERT INTO scanlogin.confirmation (login, scene, appid, openid, kind, secret, expires_at)
    SELECT hit.login, hit.id, $5, $1::text, $6, free.secret, hit.expires_at
    FROM hit CROSS JOIN LATERAL (
        SELECT u.secret
        FROM (SELECT unnest($7::text[]) AS secret) u LEFT JOIN scanlogin.confirmation c
            ON c.appid = $5 AND c.openid = $1::text AND c.secret = u.secret AND c.expires_at > now()
        ORDER BY c.login IS NOT NULL LIMIT 1
    ) free
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT $8::bytea, 'to_confirm' FROM hit WHERE length($8::bytea) > 0
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, person, browser, place, instance)
    SELECT 'scan', 'to_confirm', hit.login, scanlogin.person($5, $1::text), coalesce(hit.browser, ''), hit.place, $9 FROM hit
)
SELECT login FROM hit;

-- name: AuditLog
SELECT l.at, l.id, l.kind, l.detail, l.login, l.account_id, l.account, l.person, l.address, l.browser, l.place, l.instance, l.times
FROM (
    SELECT a.at, a.id, a.kind, a.detail, a.login, a.account_id, a.account, a.person, a.address, a.browser, a.place, a.instance, a.times
    FROM scanlogin.audit a, (SELECT pg_snapshot_xmax(CAST($1::text AS pg_snapshot))::text::bigint AS next) t,
        LATERAL (SELECT greatest(t.next - ((t.next - a.xmin::text::bigint) & 4294967295), 3)::text::xid8 AS number) x
    WHERE a.at >= greatest($2, CASE WHEN $3::text <> '' THEN now() - interval '1 hour' END) AND a.at < $4
        AND pg_visible_in_snapshot(x.number, CAST($1::text AS pg_snapshot))
        AND NOT coalesce(pg_visible_in_snapshot(x.number, CAST(nullif($3::text, '') AS pg_snapshot)), false)
        AND ($5::text = '' OR a.kind = $5) AND ($6::text = '' OR lower(a.account) = lower($6))
        AND ($7::text = '' OR replace(a.login::text, '-', '') LIKE $7 || '%')
        AND ($8::text = '' OR a.address <<= nullif($8, '')::inet)
        AND ($9::text = '' OR a.instance = $9)
        AND ($10::text = '' OR a.person = $10)
        AND ($11::text = '' OR a.person IN (SELECT scanlogin.person(w.appid, $11) FROM scanlogin.wechat_account w))
    ORDER BY a.at DESC, a.id DESC LIMIT $12
) l
ORDER BY l.at, l.id;

-- name: AwaitsAnswer
SELECT EXISTS (
    SELECT FROM scanlogin.confirmation
    WHERE appid = $1 AND openid = $2 AND kind = 'reply' AND expires_at > now()
)::bool AS asked;

-- name: Bare
SELECT s.id
FROM generate_series(1, $1::bigint) AS step
JOIN scanlogin.scene s ON s.id = mod($2::bigint + step, $3::bigint)
WHERE s.ready_until < now() + $4::interval OR s.ready_timeline <> (SELECT scanlogin.timeline())
ORDER BY step;

-- name: Beat
INSERT INTO scanlogin.instance AS i (id, name, version, streams, draining, last_callback, troubles)
VALUES ($1, $2, $3, $4, $5, now() - $6::interval, $7)
ON CONFLICT (id) DO UPDATE SET seen_at = now(), streams = excluded.streams, draining = excluded.draining,
    last_callback = excluded.last_callback, troubles = excluded.troubles;

-- name: Beat
INSERT INTO scanlogin.instance AS i (id, name, version, streams, draining, last_callback, troubles)
VALUES ($1, $2, $3, $4, $5, now() - nullif($6::float8, -1) * interval '1 s', $7)
ON CONFLICT (id) DO UPDATE SET seen_at = now(), streams = excluded.streams, draining = excluded.draining,
    last_callback = excluded.last_callback, troubles = excluded.troubles;

-- name: Bind
WITH bound AS (
    UPDATE scanlogin.scene s SET state = 'completed', expires_at = now()
    WHERE s.id = $5 AND s.login = $6::uuid AND s.state = 'bind_required' AND s.expires_at > now()
    RETURNING s.openid
), tie AS (
    INSERT INTO scanlogin.wechat_identity AS i (appid, openid, account_id)
    SELECT $7, openid, $8 FROM bound
    ON CONFLICT (appid, openid) DO UPDATE SET account_id = i.account_id WHERE i.account_id = excluded.account_id
    RETURNING i.account_id
), replaced AS (
    DELETE FROM scanlogin.web_session w USING tie WHERE w.token_hash = $9
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, account_id, now(), now() + $2::interval, $3, $4 FROM tie;

-- name: Bind
WITH bound AS (
    UPDATE scanlogin.scene s SET state = 'completed', expires_at = now()
    WHERE s.id = $5 AND s.login = $6::uuid AND s.state = 'bind_required' AND s.expires_at > now()
    RETURNING s.openid
), tie AS (
    INSERT INTO scanlogin.wechat_identity AS i (appid, openid, account_id)
    SELECT $7, openid, $8 FROM bound
    ON CONFLICT (appid, openid) DO UPDATE SET account_id = i.account_id WHERE i.account_id = excluded.account_id
    RETURNING i.account_id, i.openid
), replaced AS (
    DELETE FROM scanlogin.web_session w USING tie WHERE w.token_hash = $9
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT e.kind, e.detail, $6::uuid, a.id, a.name, scanlogin.person($7, tie.openid), $10::inet, $3, $4, $11
    FROM tie JOIN scanlogin.account a ON a.id = tie.account_id CROSS JOIN (VALUES ('bind', ''), ('login', 'bind')) e (kind, detail)
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, account_id, now(), now() + $2::interval, $3, $4 FROM tie;

-- name: Bind
WITH bound AS (
    UPDATE scanlogin.scene s SET state = 'completed', expires_at = now()
    WHERE s.id = $5 AND s.login = $6::uuid AND s.state = 'bind_required' AND s.expires_at > now()
    RETURNING s.openid
), tie AS (
    INSERT INTO scanlogin.wechat_identity AS i (appid, openid, account_id)
    SELECT $7, openid, $8 FROM bound
    ON CONFLICT (appid, openid) DO UPDATE SET account_id = i.account_id WHERE i.account_id = excluded.account_id
    RETURNING i.account_id, i.openid
), replaced AS (
    DELETE FROM scanlogin.web_session w USING tie WHERE w.token_hash = $9
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT e.kind, e.detail, $6::uuid, a.id, a.shown_name, scanlogin.person($7, tie.openid), $10::inet, $3, $4, $11
    FROM tie JOIN scanlogin.account a ON a.id = tie.account_id CROSS JOIN (VALUES ('bind', ''), ('login', 'bind')) e (kind, detail)
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, account_id, now(), now() + $2::interval, $3, $4 FROM tie;

-- name: BlockCodes
UPDATE scanlogin.wechat_account SET no_codes_until = greatest(no_codes_until, now() + $1::interval) WHERE appid = $2;

-- name: ChangePassword
UPDATE scanlogin.account SET password = $1, password_changes = password_changes + 1
WHERE id = $2 AND password_changes = $3;

-- name: ChangePassword
WITH changed AS (
    UPDATE scanlogin.account a SET password = $5, password_changes = a.password_changes + 1
    WHERE a.id = $6 AND a.password_changes = $7
    RETURNING a.id, a.name
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'password_changed', c.id, c.name, $1::inet, $2, $3, $4 FROM changed c;

-- name: ChangePassword
WITH changed AS (
    UPDATE scanlogin.account a SET password = $5, password_changes = a.password_changes + 1
    WHERE a.id = $6 AND a.password_changes = $7
    RETURNING a.id, a.shown_name
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'password_changed', c.id, c.shown_name, $1::inet, $2, $3, $4 FROM changed c;

-- name: Claim
WITH step AS MATERIALIZED (
    SELECT w.login, w.ttl, w.rest, nextval('scanlogin.scene_ring') AS scene
    FROM (
        SELECT unnest($1::uuid[]) AS login, unnest($2::interval[]) AS ttl, unnest($3::interval[]) AS rest
        LIMIT cardinality($1::uuid[])
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

-- name: ClaimNotices
UPDATE scanlogin.notice SET telling_until = now() + $1::interval
WHERE id = ANY (ARRAY(
    SELECT n.id FROM scanlogin.notice n
    WHERE n.openids <> '{}' AND n.telling_until <= now()
    ORDER BY n.at LIMIT $2 FOR UPDATE SKIP LOCKED
))
RETURNING id, kind, at, browser, place, openids, telling_until AS turn;

-- name: CodesBlocked
SELECT extract(epoch FROM greatest(a.no_codes_until, now()) - now())::float8 AS blocked_for,
    coalesce((SELECT c.made FROM scanlogin.wechat_codes c
              WHERE c.appid = a.appid AND c.day = (now() AT TIME ZONE 'Asia/Shanghai')::date), 0)::int AS made_today
FROM scanlogin.wechat_account a WHERE a.appid = $1;

-- name: Complete
WITH tie AS (
    SELECT i.account_id, i.openid
    FROM scanlogin.scene h JOIN scanlogin.wechat_identity i ON i.openid = h.openid AND i.account_id = h.account_id
    WHERE h.id = $5 AND h.login = $6::uuid AND h.state = 'authenticated' AND i.appid = $7
    FOR SHARE OF i
), done AS (
    UPDATE scanlogin.scene s SET state = 'completed', expires_at = now()
    FROM tie
    WHERE s.id = $5 AND s.login = $6::uuid AND s.state = 'authenticated' AND s.expires_at > now()
        AND s.openid = tie.openid AND s.account_id = tie.account_id
    RETURNING tie.account_id
), replaced AS (
    DELETE FROM scanlogin.web_session w USING done WHERE w.token_hash = $8
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, account_id, now(), now() + $2::interval, $3, $4 FROM done;

-- name: Complete
WITH tie AS (
    SELECT i.account_id, i.openid
    FROM scanlogin.scene h JOIN scanlogin.wechat_identity i ON i.openid = h.openid AND i.account_id = h.account_id
    WHERE h.id = $5 AND h.login = $6::uuid AND h.state = 'authenticated' AND i.appid = $7
    FOR SHARE OF i
), done AS (
    UPDATE scanlogin.scene s SET state = 'completed', expires_at = now()
    FROM tie
    WHERE s.id = $5 AND s.login = $6::uuid AND s.state = 'authenticated' AND s.expires_at > now()
        AND s.openid = tie.openid AND s.account_id = tie.account_id
    RETURNING tie.account_id, tie.openid
), replaced AS (
    DELETE FROM scanlogin.web_session w USING done WHERE w.token_hash = $8
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT 'login', 'scan', $6::uuid, a.id, a.name, scanlogin.person($7, done.openid), $9::inet, $3, $4, $10
    FROM done JOIN scanlogin.account a ON a.id = done.account_id
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, account_id, now(), now() + $2::interval, $3, $4 FROM done;

-- name: Complete
WITH tie AS (
    SELECT i.account_id, i.openid
    FROM scanlogin.scene h JOIN scanlogin.wechat_identity i ON i.openid = h.openid AND i.account_id = h.account_id
    WHERE h.id = $5 AND h.login = $6::uuid AND h.state = 'authenticated' AND i.appid = $7
    FOR SHARE OF i
), done AS (
    UPDATE scanlogin.scene s SET state = 'completed', expires_at = now()
    FROM tie
    WHERE s.id = $5 AND s.login = $6::uuid AND s.state = 'authenticated' AND s.expires_at > now()
        AND s.openid = tie.openid AND s.account_id = tie.account_id
    RETURNING tie.account_id, tie.openid
), replaced AS (
    DELETE FROM scanlogin.web_session w USING done WHERE w.token_hash = $8
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT 'login', 'scan', $6::uuid, a.id, a.shown_name, scanlogin.person($7, done.openid), $9::inet, $3, $4, $10
    FROM done JOIN scanlogin.account a ON a.id = done.account_id
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, account_id, now(), now() + $2::interval, $3, $4 FROM done;

-- name: ConfirmCode
WITH asked AS (
    SELECT c.login, c.scene, c.wrong + 1 AS tries, c.secret = $1::text AS fits, c.appid, c.openid
    FROM scanlogin.confirmation c JOIN scanlogin.scene s ON s.id = c.scene AND s.login = c.login
    WHERE c.login = $2::uuid AND c.scene = $3 AND c.kind = 'code' AND s.state = 'scanned' AND s.expires_at > now()
    FOR UPDATE OF c, s
), judged AS (
    SELECT a.login, a.scene, i.account_id, a.fits, (CASE WHEN a.fits THEN 0 ELSE greatest($4::int - a.tries, 0) END)::int AS tries_left
    FROM asked a LEFT JOIN scanlogin.wechat_identity i ON i.appid = a.appid AND i.openid = a.openid
), counted AS (
    UPDATE scanlogin.confirmation c SET wrong = c.wrong + 1
    FROM judged j WHERE j.tries_left > 0 AND c.login = j.login
), moved AS (
    UPDATE scanlogin.scene s
    SET state = CASE WHEN NOT j.fits THEN 'declined' WHEN j.account_id IS NULL THEN 'bind_required' ELSE 'authenticated' END,
        account_id = CASE WHEN j.fits THEN j.account_id END,
        expires_at = CASE WHEN j.fits THEN now() + $5::interval ELSE now() END
    FROM judged j
    WHERE j.tries_left = 0 AND s.id = j.scene AND s.login = j.login AND s.state = 'scanned' AND s.expires_at > now()
    RETURNING s.login
), over AS (
    DELETE FROM scanlogin.confirmation c USING moved WHERE c.login = moved.login
)
SELECT fits::bool AS fits, tries_left FROM judged;

-- name: ConfirmCode
WITH asked AS (
    SELECT c.login, c.scene, c.wrong + 1 AS tries, c.secret = $1::text AS fits, c.appid, c.openid
    FROM scanlogin.confirmation c JOIN scanlogin.scene s ON s.id = c.scene AND s.login = c.login
    WHERE c.login = $2::uuid AND c.scene = $3 AND c.kind = 'code' AND s.state = 'scanned' AND s.expires_at > now()
    FOR UPDATE OF c, s
), judged AS (
    SELECT a.login, a.scene, a.appid, a.openid, i.account_id, a.fits, (CASE WHEN a.fits THEN 0 ELSE greatest($4::int - a.tries, 0) END)::int AS tries_left
    FROM asked a LEFT JOIN scanlogin.wechat_identity i ON i.appid = a.appid AND i.openid = a.openid
), counted AS (
    UPDATE scanlogin.confirmation c SET wrong = c.wrong + 1
    FROM judged j WHERE j.tries_left > 0 AND c.login = j.login
), moved AS (
    UPDATE scanlogin.scene s
    SET state = CASE WHEN NOT j.fits THEN 'declined' WHEN j.account_id IS NULL THEN 'bind_required' ELSE 'authenticated' END,
        account_id = CASE WHEN j.fits THEN j.account_id END,
        expires_at = CASE WHEN j.fits THEN now() + $5::interval ELSE now() END
    FROM judged j
    WHERE j.tries_left = 0 AND s.id = j.scene AND s.login = j.login AND s.state = 'scanned' AND s.expires_at > now()
    RETURNING s.login
), over AS (
    DELETE FROM scanlogin.confirmation c USING moved WHERE c.login = moved.login
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT CASE WHEN j.fits THEN 'confirm' ELSE 'wrong_confirm' END,
        CASE WHEN NOT j.fits THEN CASE WHEN j.tries_left > 0 THEN 'wrong_code' ELSE 'wrong_thrice' END WHEN j.account_id IS NULL THEN 'must_bind' ELSE 'logged_in' END,
        j.login, a.id, a.name, scanlogin.person(j.appid, j.openid), $6::inet, $7, $8, $9
    FROM judged j LEFT JOIN scanlogin.account a ON a.id = j.account_id
)
SELECT fits::bool AS fits, tries_left FROM judged;

-- name: ConfirmCode
WITH asked AS (
    SELECT c.login, c.scene, c.wrong + 1 AS tries, c.secret = $1::text AS fits, c.appid, c.openid
    FROM scanlogin.confirmation c JOIN scanlogin.scene s ON s.id = c.scene AND s.login = c.login
    WHERE c.login = $2::uuid AND c.scene = $3 AND c.kind = 'code' AND s.state = 'scanned' AND s.expires_at > now()
    FOR UPDATE OF c, s
), judged AS (
    SELECT a.login, a.scene, a.appid, a.openid, i.account_id, a.fits, (CASE WHEN a.fits THEN 0 ELSE greatest($4::int - a.tries, 0) END)::int AS tries_left
    FROM asked a LEFT JOIN scanlogin.wechat_identity i ON i.appid = a.appid AND i.openid = a.openid
), counted AS (
    UPDATE scanlogin.confirmation c SET wrong = c.wrong + 1
    FROM judged j WHERE j.tries_left > 0 AND c.login = j.login
), moved AS (
    UPDATE scanlogin.scene s
    SET state = CASE WHEN NOT j.fits THEN 'declined' WHEN j.account_id IS NULL THEN 'bind_required' ELSE 'authenticated' END,
        account_id = CASE WHEN j.fits THEN j.account_id END,
        expires_at = CASE WHEN j.fits THEN now() + $5::interval ELSE now() END
    FROM judged j
    WHERE j.tries_left = 0 AND s.id = j.scene AND s.login = j.login AND s.state = 'scanned' AND s.expires_at > now()
    RETURNING s.login
), over AS (
    DELETE FROM scanlogin.confirmation c USING moved WHERE c.login = moved.login
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT CASE WHEN j.fits THEN 'confirm' ELSE 'wrong_confirm' END,
        CASE WHEN NOT j.fits THEN CASE WHEN j.tries_left > 0 THEN 'wrong_code' ELSE 'wrong_thrice' END WHEN j.account_id IS NULL THEN 'must_bind' ELSE 'logged_in' END,
        j.login, a.id, a.shown_name, scanlogin.person(j.appid, j.openid), $6::inet, $7, $8, $9
    FROM judged j LEFT JOIN scanlogin.account a ON a.id = j.account_id
)
SELECT fits::bool AS fits, tries_left FROM judged;

-- name: CountCodes
INSERT INTO scanlogin.wechat_codes AS c (appid, day, made)
VALUES ($1, (now() AT TIME ZONE 'Asia/Shanghai')::date, $2)
ON CONFLICT (appid, day) DO UPDATE SET made = c.made + excluded.made;

-- name: CreateAccount
INSERT INTO scanlogin.account (name, password) VALUES ($1, $2)
ON CONFLICT DO NOTHING
RETURNING id, created_at;

-- name: CreateAccount
WITH made AS (
    INSERT INTO scanlogin.account (name, password) VALUES ($1, $2)
    ON CONFLICT DO NOTHING
    RETURNING id, name, created_at
), noted AS (
    INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
    SELECT 'signup', m.id, m.name, $3::inet, $4, $5, $6 FROM made m
)
SELECT id, created_at FROM made;

-- name: CreateSession
WITH who AS (
    SELECT a.id FROM scanlogin.account a
    WHERE a.id = $5 AND a.password_changes = $6
    FOR SHARE
), replaced AS (
    DELETE FROM scanlogin.web_session s USING who WHERE s.token_hash = $7
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, who.id, now(), now() + $2::interval, $3, $4 FROM who;

-- name: CreateSession
WITH who AS (
    SELECT a.id, a.name FROM scanlogin.account a
    WHERE a.id = $5 AND a.password_changes = $6
    FOR SHARE
), replaced AS (
    DELETE FROM scanlogin.web_session s USING who WHERE s.token_hash = $7
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, address, browser, place, instance)
    SELECT 'login', 'password', who.id, who.name, $8::inet, $3, $4, $9 FROM who
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, who.id, now(), now() + $2::interval, $3, $4 FROM who;

-- name: CreateSession
WITH who AS (
    SELECT a.id, a.shown_name FROM scanlogin.account a
    WHERE a.id = $5 AND a.password_changes = $6
    FOR SHARE
), replaced AS (
    DELETE FROM scanlogin.web_session s USING who WHERE s.token_hash = $7
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, address, browser, place, instance)
    SELECT 'login', 'password', who.id, who.shown_name, $8::inet, $3, $4, $9 FROM who
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT $1, who.id, now(), now() + $2::interval, $3, $4 FROM who;

-- name: Current
SELECT max(version_id), current_setting('synchronous_commit'), quote_ident(current_user) FROM scanlogin.goose_db_version;

-- name: DeleteSession
DELETE FROM scanlogin.web_session WHERE token_hash = $1;

-- name: DeleteSession
WITH ended AS (
    DELETE FROM scanlogin.web_session s WHERE s.token_hash = $5 RETURNING s.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'logout', a.id, a.name, $1::inet, $2, $3, $4
FROM ended JOIN scanlogin.account a ON a.id = ended.account_id;

-- name: DeleteSession
WITH ended AS (
    DELETE FROM scanlogin.web_session s WHERE s.token_hash = $5 RETURNING s.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'logout', a.id, a.shown_name, $1::inet, $2, $3, $4
FROM ended JOIN scanlogin.account a ON a.id = ended.account_id;

-- name: DropToken
UPDATE scanlogin.wechat_account SET token = '', renew_at = 'epoch'
WHERE appid = $1 AND token = $2;

-- name: EndLease
DELETE FROM scanlogin.lease WHERE name = $1 AND holder = $2::uuid;

-- name: EndNotice
DELETE FROM scanlogin.notice WHERE id = $1 AND telling_until = $2;

-- name: EndOtherSessions
WITH ended AS (
    DELETE FROM scanlogin.web_session s WHERE s.account_id = $1 AND s.token_hash <> $2
    RETURNING s.expires_at > now() AND s.seen_at > now() - $3::interval AS lived
)
SELECT count(*) FILTER (WHERE lived) FROM ended;

-- name: EndOtherSessions
WITH ended AS (
    DELETE FROM scanlogin.web_session s WHERE s.account_id = $1 AND s.token_hash IS DISTINCT FROM $2
    RETURNING s.expires_at > now() AND s.seen_at > now() - $3::interval AS lived
), counted AS (
    SELECT count(*) FILTER (WHERE lived) AS n FROM ended
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, address, browser, place, instance, times)
    SELECT 'revoke', $4::text, a.id, a.name, $5::inet, $6, $7, $8, counted.n
    FROM counted JOIN scanlogin.account a ON a.id = $1 WHERE counted.n > 0
)
SELECT n FROM counted;

-- name: EndOtherSessions
WITH ended AS (
    DELETE FROM scanlogin.web_session s WHERE s.account_id = $1 AND s.token_hash IS DISTINCT FROM $2
    RETURNING s.expires_at > now() AND s.seen_at > now() - $3::interval AS lived
), counted AS (
    SELECT count(*) FILTER (WHERE lived) AS n FROM ended
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, address, browser, place, instance, times)
    SELECT 'revoke', $4::text, a.id, a.shown_name, $5::inet, $6, $7, $8, counted.n
    FROM counted JOIN scanlogin.account a ON a.id = $1 WHERE counted.n > 0
)
SELECT n FROM counted;

-- name: EndSession
DELETE FROM scanlogin.web_session
WHERE id = $1 AND account_id = $2 AND expires_at > now() AND seen_at > now() - $3::interval;

-- name: EndSession
WITH ended AS (
    DELETE FROM scanlogin.web_session s
    WHERE s.id = $5 AND s.account_id = $6 AND s.expires_at > now() AND s.seen_at > now() - $7::interval
    RETURNING s.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'revoke', a.id, a.name, $1::inet, $2, $3, $4
FROM ended JOIN scanlogin.account a ON a.id = ended.account_id;

-- name: EndSession
WITH ended AS (
    DELETE FROM scanlogin.web_session s
    WHERE s.id = $5 AND s.account_id = $6 AND s.expires_at > now() AND s.seen_at > now() - $7::interval
    RETURNING s.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'revoke', a.id, a.shown_name, $1::inet, $2, $3, $4
FROM ended JOIN scanlogin.account a ON a.id = ended.account_id;

-- name: EndSessions
DELETE FROM scanlogin.web_session WHERE account_id = $1;

-- name: EndSessionsOfOpenID
DELETE FROM scanlogin.web_session s USING scanlogin.wechat_identity i
WHERE i.appid = $1 AND i.openid = $2 AND s.account_id = i.account_id;

-- name: EndSessionsOfOpenID
WITH ended AS (
    DELETE FROM scanlogin.web_session s USING scanlogin.wechat_identity i
    WHERE i.appid = $1 AND i.openid = $2 AND s.account_id = i.account_id
    RETURNING s.account_id
), counted AS (
    SELECT count(*) AS n FROM ended
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, instance, times)
    SELECT w.kind, w.detail, a.id, a.name, scanlogin.person(i.appid, i.openid), $3, w.times
    FROM scanlogin.wechat_identity i JOIN scanlogin.account a ON a.id = i.account_id CROSS JOIN counted
        CROSS JOIN LATERAL (VALUES ('unfollow', '', 1), ('revoke', 'unfollow', counted.n::int)) w (kind, detail, times)
    WHERE i.appid = $1 AND i.openid = $2 AND w.times > 0
)
SELECT n FROM counted;

-- name: EndSessionsOfOpenID
WITH ended AS (
    DELETE FROM scanlogin.web_session s USING scanlogin.wechat_identity i
    WHERE i.appid = $1 AND i.openid = $2 AND s.account_id = i.account_id
    RETURNING s.account_id
), counted AS (
    SELECT count(*) AS n FROM ended
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, instance, times)
    SELECT w.kind, w.detail, a.id, a.shown_name, scanlogin.person(i.appid, i.openid), $3, w.times
    FROM scanlogin.wechat_identity i JOIN scanlogin.account a ON a.id = i.account_id CROSS JOIN counted
        CROSS JOIN LATERAL (VALUES ('unfollow', '', 1), ('revoke', 'unfollow', counted.n::int)) w (kind, detail, times)
    WHERE i.appid = $1 AND i.openid = $2 AND w.times > 0
)
SELECT n FROM counted;

-- name: EndTokenFetch
UPDATE scanlogin.wechat_account
SET fetching_until = 'epoch', renew_at = CASE WHEN token = '' THEN renew_at ELSE least(token_until, now() + $1::interval) END
WHERE appid = $2 AND fetching_until = $3;

-- name: ForeignAccount
SELECT id, created_at, password_changes FROM scanlogin.account
WHERE external_id = $1::text AND external_name = $2 AND external_version = $3;

-- name: ForeignID
SELECT coalesce(external_id, '')::text AS external_id FROM scanlogin.account WHERE id = $1;

-- name: ForgetLogins
UPDATE scanlogin.scene s
SET openid = NULL, account_id = NULL, place = '', browser = NULL, ticket = '', url = ''
FROM (
    SELECT f.id FROM scanlogin.scene f
    WHERE f.id > $1 AND f.expires_at < now() - interval '1 day'
        AND (f.openid IS NOT NULL OR f.account_id IS NOT NULL OR f.place <> '' OR f.browser IS NOT NULL OR f.ticket <> '' OR f.url <> '')
    ORDER BY f.id LIMIT $2 FOR UPDATE SKIP LOCKED
) ended
WHERE s.id = ended.id
RETURNING s.id;

-- name: GiveBackLimits
WITH back AS (
    SELECT r.key, b.step, b.growing
    FROM (
        SELECT unnest($1::bytea[]) AS key, unnest($2::float8[]) AS step, unnest($3::boolean[]) AS growing
    ) b JOIN scanlogin.rate_limit r ON r.key = b.key
    ORDER BY r.key FOR UPDATE OF r
)
UPDATE scanlogin.rate_limit r
SET tat = CASE WHEN back.growing THEN now() ELSE r.tat - back.step * interval '1 s' END, tries = 0
FROM back WHERE r.key = back.key;

-- name: HoldSession
SELECT FROM scanlogin.web_session WHERE token_hash = $1 AND account_id = $2 FOR UPDATE;

-- name: Identities
SELECT bound_at FROM scanlogin.wechat_identity WHERE account_id = $1 ORDER BY bound_at;

-- name: Instances
SELECT name, version, started_at, streams, draining, last_callback, troubles,
    extract(epoch FROM now() - seen_at)::float8 AS unseen
FROM scanlogin.instance ORDER BY name, started_at;

-- name: Instances
SELECT name, version, streams, draining, troubles,
    extract(epoch FROM now() - started_at)::float8 AS up_for,
    extract(epoch FROM now() - seen_at)::float8 AS unseen,
    coalesce(extract(epoch FROM now() - last_callback), -1)::float8 AS callback_age
FROM scanlogin.instance ORDER BY name, started_at;

-- name: Join
WITH come AS (
    SELECT u.id, u.login, count(*)::int AS streams
    FROM (
        SELECT unnest($1::integer[]) AS id, unnest($2::uuid[]) AS login
        LIMIT cardinality($1::integer[])
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

-- name: KeepAudit
SELECT scanlogin.keep_audit($1::interval)::integer AS dropped;

-- name: KeepForeign
INSERT INTO scanlogin.account AS a (name, password, external_id, external_name, external_version)
VALUES (' ' || gen_random_uuid(), '!', $1::text, $2, $3)
ON CONFLICT (external_id) WHERE external_id IS NOT NULL
DO UPDATE SET external_name = excluded.external_name
RETURNING a.id, a.created_at, a.password_changes, (a.external_version <> $3)::bool AS renewed;

-- name: LearnOriginalID
UPDATE scanlogin.wechat_account SET original_id = $1 WHERE appid = $2 AND original_id = '';

-- name: Leave
WITH gone AS (
    SELECT u.id, u.login, count(*)::int AS streams
    FROM (SELECT unnest($1::integer[]) AS id, unnest($2::uuid[]) AS login) u
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

-- name: LeaveNotice
UPDATE scanlogin.notice SET openids = '{}', telling_until = 'epoch' WHERE id = $1 AND telling_until = $2;

-- name: ListAccounts
SELECT a.id, a.name, a.created_at, count(i.openid)::int AS ties
FROM scanlogin.account a LEFT JOIN scanlogin.wechat_identity i ON i.account_id = a.id
GROUP BY a.id ORDER BY lower(a.name);

-- name: ListAccounts
SELECT a.id, a.shown_name AS name,
    coalesce(a.external_id, '')::text AS external_id, a.created_at, count(i.openid)::int AS ties
FROM scanlogin.account a LEFT JOIN scanlogin.wechat_identity i ON i.account_id = a.id
GROUP BY a.id ORDER BY lower(a.shown_name), a.id;

-- name: LockAccount
SELECT FROM scanlogin.account WHERE id = $1 FOR NO KEY UPDATE;

-- name: LockAccountOfOpenID
SELECT FROM scanlogin.account a JOIN scanlogin.wechat_identity i ON i.account_id = a.id
WHERE i.appid = $1 AND i.openid = $2 FOR NO KEY UPDATE OF a;

-- name: LockTie
SELECT FROM scanlogin.wechat_identity WHERE appid = $1 AND openid = $2 FOR UPDATE;

-- name: Look
SELECT l.id, l.login, l.state, l.ticket, l.url, l.expires_in
FROM (
    SELECT w.id::integer AS id, w.login::uuid AS login, w.seen,
        (CASE WHEN s.state IN ('completed', 'declined') OR s.expires_at > now() THEN s.state ELSE 'expired' END)::text AS state,
        coalesce(s.ticket, '')::text AS ticket, coalesce(s.url, '')::text AS url,
        greatest(extract(epoch FROM s.expires_at - now()), 0)::float8 AS expires_in
    FROM (
        SELECT unnest($1::integer[]) AS id, unnest($2::uuid[]) AS login, unnest($3::text[]) AS seen
        LIMIT cardinality($1::integer[])
    ) w
    LEFT JOIN scanlogin.scene s ON s.id = w.id AND s.login = w.login
) l
WHERE l.state <> l.seen;

-- name: NoteRefusals
INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, address, browser, place, instance, times)
SELECT u.kind, u.detail, a.id, a.name, nullif(u.person, ''), nullif(u.address, '')::inet, u.browser, u.place, $1, u.times
FROM (
    SELECT unnest($2::text[]) AS kind, unnest($3::text[]) AS detail, unnest($4::text[]) AS account,
        unnest($5::text[]) AS person, unnest($6::text[]) AS address,
        unnest($7::text[]) AS browser, unnest($8::text[]) AS place, unnest($9::integer[]) AS times
) u LEFT JOIN scanlogin.account a ON u.account <> '' AND lower(a.name) = lower(u.account);

-- name: NoteRefusals
INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, address, browser, place, instance, times)
SELECT u.kind, u.detail, a.id, a.shown_name, nullif(u.person, ''), nullif(u.address, '')::inet, u.browser, u.place, $1, u.times
FROM (
    SELECT unnest($2::text[]) AS kind, unnest($3::text[]) AS detail, unnest($4::text[]) AS account,
        unnest($5::text[]) AS person, unnest($6::text[]) AS address,
        unnest($7::text[]) AS browser, unnest($8::text[]) AS place, unnest($9::integer[]) AS times
) u LEFT JOIN scanlogin.account a ON u.account <> '' AND lower(a.name) = lower(u.account);

-- name: NoteRefusals
INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, address, browser, place, instance, times)
SELECT u.kind, u.detail, a.id, a.shown_name, nullif(u.person, ''), nullif(u.address, '')::inet, u.browser, u.place, $1, u.times
FROM (
    SELECT unnest($2::text[]) AS kind, unnest($3::text[]) AS detail, unnest($4::text[]) AS account,
        unnest($5::text[]) AS person, unnest($6::text[]) AS address,
        unnest($7::text[]) AS browser, unnest($8::text[]) AS place, unnest($9::integer[]) AS times,
        generate_subscripts($2::text[], 1) AS place_in_line
) u LEFT JOIN scanlogin.account a ON u.account <> '' AND lower(a.name) = lower(u.account)
ORDER BY u.place_in_line;

-- name: NoticesOf
SELECT id, kind, at, browser, place FROM scanlogin.notice
WHERE account_id = $1 AND (openids = '{}' OR at <= now() - $2::interval)
ORDER BY at DESC, id DESC LIMIT 100;

-- name: Notify
SELECT pg_notify($1::text, payload) FROM unnest($2::text[]) AS payload;

-- name: OriginOf
SELECT place, coalesce(browser, '')::text AS browser FROM scanlogin.scene WHERE id = $1 AND ticket = $2 AND ticket <> '';

-- name: OriginalID
SELECT original_id FROM scanlogin.wechat_account WHERE appid = $1;

-- name: Overview
SELECT pool.free, pool.resting, pool.held, pool.ready,
    extract(epoch FROM greatest(a.token_until, now()) - now())::float8 AS token_left,
    extract(epoch FROM greatest(a.no_codes_until, now()) - now())::float8 AS blocked_for,
    coalesce((SELECT c.made FROM scanlogin.wechat_codes c
              WHERE c.appid = a.appid AND c.day = (now() AT TIME ZONE 'Asia/Shanghai')::date), 0)::int AS made_today
FROM scanlogin.wechat_account a CROSS JOIN (
    SELECT count(*) FILTER (WHERE s.expires_at <= now() - $1::interval) AS free,
        count(*) FILTER (WHERE s.expires_at <= now() AND s.expires_at > now() - $1::interval) AS resting,
        count(*) FILTER (WHERE s.expires_at > now()) AS held,
        count(*) FILTER (WHERE s.ready_until >= now() + $2::interval AND s.ready_timeline = (SELECT scanlogin.timeline())) AS ready
    FROM scanlogin.scene s
) pool
WHERE a.appid = $3;

-- name: PoolStatus
SELECT count(*)::int AS size, count(*) FILTER (WHERE s.expires_at > now())::int AS held,
    count(*) FILTER (WHERE s.ready_until > now() AND s.ready_timeline = (SELECT scanlogin.timeline()))::int AS ready
FROM scanlogin.scene s;

-- name: Prepare
UPDATE scanlogin.scene
SET ready_ticket = $1, ready_url = $2, ready_until = now() + $3::interval, ready_timeline = scanlogin.timeline()
WHERE id = $4 AND (ready_until < now() + $5::interval OR ready_timeline <> (SELECT scanlogin.timeline()));

-- name: PushReply
SELECT reply FROM scanlogin.wechat_push WHERE id = $1;

-- name: QuestionTo
SELECT c.login, c.kind, (CASE WHEN c.kind = 'code' THEN c.secret ELSE '' END)::text AS code, s.place, coalesce(s.browser, '')::text AS browser
FROM scanlogin.scene s JOIN scanlogin.confirmation c ON c.login = s.login AND c.scene = s.id
WHERE s.id = $1 AND s.ticket = $2 AND s.state = 'scanned' AND s.expires_at > now()
    AND c.appid = $3 AND c.openid = $4;

-- name: Questions
SELECT login, kind, (CASE WHEN kind = 'reply' THEN secret ELSE '' END)::text AS number
FROM scanlogin.confirmation WHERE login = ANY ($1::uuid[]);

-- name: Rehash
UPDATE scanlogin.account SET password = $1 WHERE id = $2 AND password = $3;

-- name: RemoveCodes
DELETE FROM scanlogin.wechat_codes WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM scanlogin.wechat_codes c
    WHERE c.day < (now() AT TIME ZONE 'Asia/Shanghai')::date - 366
    LIMIT $1 FOR UPDATE SKIP LOCKED
));

-- name: RemoveConfirmations
DELETE FROM scanlogin.confirmation WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM scanlogin.confirmation c
    WHERE c.expires_at <= now()
    ORDER BY c.expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
));

-- name: RemoveIdleSessions
WITH looked AS MATERIALIZED (
    SELECT s.token_hash, s.seen_at FROM scanlogin.web_session s
    WHERE s.token_hash > coalesce($1::bytea, '') ORDER BY s.token_hash LIMIT $2
), gone AS (
    DELETE FROM scanlogin.web_session WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM scanlogin.web_session s
        WHERE s.token_hash = ANY (ARRAY(SELECT l.token_hash FROM looked l WHERE l.seen_at <= now() - $3::interval))
            AND s.seen_at <= now() - $3::interval
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING token_hash
)
SELECT (SELECT count(*) FROM gone) AS removed, count(*) AS looked_at,
    coalesce((SELECT l.token_hash FROM looked l ORDER BY l.token_hash DESC LIMIT 1), '')::bytea AS last
FROM looked;

-- name: RemoveInstance
DELETE FROM scanlogin.instance WHERE id = $1;

-- name: RemoveInstances
DELETE FROM scanlogin.instance WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM scanlogin.instance i
    WHERE i.seen_at < now() - interval '1 day'
    LIMIT $1 FOR UPDATE SKIP LOCKED
));

-- name: RemoveLimits
WITH walked AS (
    SELECT w.key FROM scanlogin.rate_limit w WHERE w.key > $1 ORDER BY w.key LIMIT $2
), gone AS (
    DELETE FROM scanlogin.rate_limit WHERE ctid = ANY (ARRAY(
        SELECT r.ctid FROM scanlogin.rate_limit r JOIN walked ON walked.key = r.key
        WHERE r.tat < now() - $3::interval
        ORDER BY r.key FOR UPDATE OF r SKIP LOCKED
    ))
    RETURNING 1
)
SELECT (SELECT count(*) FROM walked) AS walked, (SELECT count(*) FROM gone) AS removed,
    coalesce((SELECT key FROM walked ORDER BY key DESC LIMIT 1), '')::bytea AS last;

-- name: RemoveNotices
DELETE FROM scanlogin.notice WHERE ctid = ANY (ARRAY(
    SELECT n.ctid FROM scanlogin.notice n
    WHERE n.at < now() - $1::interval
    ORDER BY n.at LIMIT $2 FOR UPDATE SKIP LOCKED
));

-- name: RemovePushes
DELETE FROM scanlogin.wechat_push WHERE ctid = ANY (ARRAY(
    SELECT p.ctid FROM scanlogin.wechat_push p
    WHERE p.created_at < now() - $1::interval
    ORDER BY p.created_at LIMIT $2 FOR UPDATE SKIP LOCKED
));

-- name: RemoveSessions
DELETE FROM scanlogin.web_session WHERE ctid = ANY (ARRAY(
    SELECT s.ctid FROM scanlogin.web_session s
    WHERE s.expires_at <= now()
    ORDER BY s.expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
));

-- name: RenewForeign
UPDATE scanlogin.account SET external_version = $1, password_changes = password_changes + 1
WHERE id = $2 RETURNING password_changes;

-- name: ResizePool
SELECT scanlogin.resize_pool($1);

-- name: Ring
SELECT scanlogin.ring_position() AS position, (seqmax + 1)::bigint AS size
FROM pg_catalog.pg_sequence WHERE seqrelid = 'scanlogin.scene_ring'::regclass;

-- name: RotateSession
UPDATE scanlogin.web_session SET token_hash = $1 WHERE token_hash = $2;

-- name: SavePush
INSERT INTO scanlogin.wechat_push (id, reply) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: SawSession
UPDATE scanlogin.web_session SET seen_at = now()
WHERE token_hash = (
    SELECT s.token_hash FROM scanlogin.web_session s
    WHERE s.token_hash = $1 AND s.seen_at <= now() - $2::interval
    FOR NO KEY UPDATE SKIP LOCKED
);

-- name: Scan
WITH hit AS (
    UPDATE scanlogin.scene s
    SET state = CASE WHEN t.account_id IS NULL THEN 'bind_required' ELSE 'authenticated' END,
        openid = $1::text, account_id = t.account_id, expires_at = now() + $2::interval
    FROM (
        SELECT (SELECT i.account_id FROM scanlogin.wechat_identity i
                WHERE i.appid = $5 AND i.openid = $1::text) AS account_id
    ) t
    WHERE s.id = $3 AND s.ticket = $4 AND s.ticket <> '' AND s.state = 'waiting' AND s.expires_at > now()
    RETURNING s.login, (s.account_id IS NOT NULL)::bool AS known
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT $6::bytea, CASE WHEN hit.known THEN 'logged_in' ELSE 'must_bind' END FROM hit
    WHERE length($6::bytea) > 0
    ON CONFLICT DO NOTHING
)
SELECT login, known FROM hit;

-- name: Scan
WITH hit AS (
    UPDATE scanlogin.scene s
    SET state = CASE WHEN t.account_id IS NULL THEN 'bind_required' ELSE 'authenticated' END,
        openid = $1::text, account_id = t.account_id, expires_at = now() + $2::interval
    FROM (
        SELECT (SELECT i.account_id FROM scanlogin.wechat_identity i
                WHERE i.appid = $5 AND i.openid = $1::text) AS account_id
    ) t
    WHERE s.id = $3 AND s.ticket = $4 AND s.ticket <> '' AND s.state = 'waiting' AND s.expires_at > now()
    RETURNING s.login, (s.account_id IS NOT NULL)::bool AS known, s.account_id, s.place, s.browser
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT $6::bytea, CASE WHEN hit.known THEN 'logged_in' ELSE 'must_bind' END FROM hit
    WHERE length($6::bytea) > 0
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, browser, place, instance)
    SELECT 'scan', CASE WHEN hit.known THEN 'logged_in' ELSE 'must_bind' END, hit.login, a.id, a.name,
        scanlogin.person($5, $1::text), coalesce(hit.browser, ''), hit.place, $7
    FROM hit LEFT JOIN scanlogin.account a ON a.id = hit.account_id
)
SELECT login, known FROM hit;

-- name: Scan
WITH hit AS (
    UPDATE scanlogin.scene s
    SET state = CASE WHEN t.account_id IS NULL THEN 'bind_required' ELSE 'authenticated' END,
        openid = $1::text, account_id = t.account_id, expires_at = now() + $2::interval
    FROM (
        SELECT (SELECT i.account_id FROM scanlogin.wechat_identity i
                WHERE i.appid = $5 AND i.openid = $1::text) AS account_id
    ) t
    WHERE s.id = $3 AND s.ticket = $4 AND s.ticket <> '' AND s.state = 'waiting' AND s.expires_at > now()
    RETURNING s.login, (s.account_id IS NOT NULL)::bool AS known, s.account_id, s.place, s.browser
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT $6::bytea, CASE WHEN hit.known THEN 'logged_in' ELSE 'must_bind' END FROM hit
    WHERE length($6::bytea) > 0
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, browser, place, instance)
    SELECT 'scan', CASE WHEN hit.known THEN 'logged_in' ELSE 'must_bind' END, hit.login, a.id, a.shown_name,
        scanlogin.person($5, $1::text), coalesce(hit.browser, ''), hit.place, $7
    FROM hit LEFT JOIN scanlogin.account a ON a.id = hit.account_id
)
SELECT login, known FROM hit;

-- name: Scanned
SELECT login, (account_id IS NOT NULL)::bool AS known, (openid = $1::text)::bool AS same
FROM scanlogin.scene
WHERE id = $2 AND ticket = $3 AND openid IS NOT NULL
    AND (state = 'completed' OR state <> 'expired' AND expires_at > now());

-- name: SeenNotices
DELETE FROM scanlogin.notice WHERE account_id = $1 AND id = ANY ($2::bigint[]);

-- name: SessionByHash
SELECT a.id AS account_id, a.name, a.created_at AS account_created_at,
    s.id, s.browser, s.place, s.created_at, s.seen_at, s.expires_at,
    extract(epoch FROM now() - s.seen_at)::float8 AS unseen
FROM scanlogin.web_session s JOIN scanlogin.account a ON a.id = s.account_id
WHERE s.token_hash = $1 AND s.expires_at > now() AND s.seen_at > now() - $2::interval;

-- name: SessionByHash
SELECT a.id AS account_id, a.shown_name AS name,
    a.created_at AS account_created_at,
    s.id, s.browser, s.place, s.created_at, s.seen_at, s.expires_at,
    extract(epoch FROM now() - s.seen_at)::float8 AS unseen,
    coalesce(a.external_id, '')::text AS external_id, a.password_changes
FROM scanlogin.web_session s JOIN scanlogin.account a ON a.id = s.account_id
WHERE s.token_hash = $1 AND s.expires_at > now() AND s.seen_at > now() - $2::interval;

-- name: SessionsOf
SELECT s.id, s.browser, s.place, s.created_at, s.seen_at, s.expires_at
FROM scanlogin.web_session s
WHERE s.account_id = $1 AND s.expires_at > now() AND s.seen_at > now() - $2::interval
ORDER BY s.created_at DESC, s.id LIMIT 1000;

-- name: SetOrigin
UPDATE scanlogin.scene SET place = $1, browser = nullif($2::text, '')
WHERE id = $3 AND login = $4::uuid AND state = 'waiting';

-- name: SetPassword
UPDATE scanlogin.account SET password = $1, password_changes = password_changes + 1 WHERE id = $2;

-- name: SetPassword
WITH changed AS (
    UPDATE scanlogin.account a SET password = $5, password_changes = a.password_changes + 1 WHERE a.id = $6
    RETURNING a.id, a.name
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'password_changed', c.id, c.name, $1::inet, $2, $3, $4 FROM changed c;

-- name: SetPassword
WITH changed AS (
    UPDATE scanlogin.account a SET password = $5, password_changes = a.password_changes + 1 WHERE a.id = $6
    RETURNING a.id, a.shown_name
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'password_changed', c.id, c.shown_name, $1::inet, $2, $3, $4 FROM changed c;

-- name: SetTicket
UPDATE scanlogin.scene SET ticket = $1, url = $2
WHERE id = $3 AND login = $4::uuid AND state = 'waiting' AND expires_at > now();

-- name: SetToken
UPDATE scanlogin.wechat_account
SET token = $1, token_until = now() + $2::interval, renew_at = now() + $3::interval, fetching_until = 'epoch'
WHERE appid = $4 AND fetching_until = $5;

-- name: Snapshot
SELECT pg_current_snapshot()::text AS snapshot;

-- name: SomeForeignID
SELECT coalesce(external_id, '')::text AS external_id FROM scanlogin.account
WHERE external_id IS NOT NULL ORDER BY id DESC LIMIT 1;

-- name: SomeForeignID
SELECT coalesce(external_id, '')::text AS external_id FROM scanlogin.account
WHERE external_id IS NOT NULL ORDER BY external_id LIMIT 1;

-- name: StartTokenFetch
UPDATE scanlogin.wechat_account SET fetching_until = now() + $1::interval
WHERE appid = $2 AND renew_at <= now() AND fetching_until <= now()
RETURNING fetching_until;

-- name: TakeLease
INSERT INTO scanlogin.lease AS l (name, holder, until) VALUES ($1, $2::uuid, now() + $3::interval)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE l.holder = excluded.holder OR l.until <= now();

-- name: TakeLimits
SELECT scanlogin.take_limits(
    $1::bytea[], $2::integer[], $3::integer[], $4::integer[], $5::float8[], $6::boolean[]
)::float8[] AS waits;

-- name: Token
SELECT token, (renew_at > now())::bool AS fresh, (token <> '' AND token_until > now())::bool AS usable
FROM scanlogin.wechat_account WHERE appid = $1;

-- name: Unbind
DELETE FROM scanlogin.wechat_identity WHERE account_id = $1;

-- name: Unbind
WITH gone AS (
    DELETE FROM scanlogin.wechat_identity i WHERE i.account_id = $5
    RETURNING i.appid, i.openid, i.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, person, address, browser, place, instance)
SELECT 'unbind', a.id, a.name, scanlogin.person(gone.appid, gone.openid), $1::inet, $2, $3, $4
FROM gone JOIN scanlogin.account a ON a.id = gone.account_id;

-- name: Unbind
WITH gone AS (
    DELETE FROM scanlogin.wechat_identity i WHERE i.account_id = $5
    RETURNING i.appid, i.openid, i.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, person, address, browser, place, instance)
SELECT 'unbind', a.id, a.shown_name, scanlogin.person(gone.appid, gone.openid), $1::inet, $2, $3, $4
FROM gone JOIN scanlogin.account a ON a.id = gone.account_id;

-- name: UnbindOpenID
DELETE FROM scanlogin.wechat_identity WHERE appid = $1 AND openid = $2;

-- name: UnbindOpenID
WITH gone AS (
    DELETE FROM scanlogin.wechat_identity i WHERE i.appid = $2 AND i.openid = $3
    RETURNING i.appid, i.openid, i.account_id
)
INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, instance)
SELECT 'unbind', 'unfollow', a.id, a.name, scanlogin.person(gone.appid, gone.openid), $1
FROM gone JOIN scanlogin.account a ON a.id = gone.account_id;

-- name: UnbindOpenID
WITH gone AS (
    DELETE FROM scanlogin.wechat_identity i WHERE i.appid = $2 AND i.openid = $3
    RETURNING i.appid, i.openid, i.account_id
)
INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, instance)
SELECT 'unbind', 'unfollow', a.id, a.shown_name, scanlogin.person(gone.appid, gone.openid), $1
FROM gone JOIN scanlogin.account a ON a.id = gone.account_id;

-- name: Vouch
SELECT FROM scanlogin.account WHERE id = $1 AND password_changes = $2 FOR SHARE;

-- name: WeChatStatus
SELECT a.appid, greatest(extract(epoch FROM a.token_until - now()), 0)::float8 AS token_for,
    extract(epoch FROM greatest(a.no_codes_until, now()) - now())::float8 AS no_codes_for,
    coalesce((SELECT c.made FROM scanlogin.wechat_codes c
              WHERE c.appid = a.appid AND c.day = (now() AT TIME ZONE 'Asia/Shanghai')::date), 0)::int AS made_today
FROM scanlogin.wechat_account a ORDER BY a.appid;
