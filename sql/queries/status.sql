-- name: Beat :exec
-- An instance says that it is there. Times are given as ages, -1 for never: this clock
-- decides.
INSERT INTO scanlogin.instance AS i (id, name, version, streams, draining, last_callback, troubles)
VALUES (@id, @name, @version, @streams, @draining, now() - nullif(@callback_age::float8, -1) * interval '1 s', @troubles)
ON CONFLICT (id) DO UPDATE SET seen_at = now(), streams = excluded.streams, draining = excluded.draining,
    last_callback = excluded.last_callback, troubles = excluded.troubles;

-- name: RemoveInstance :exec
DELETE FROM scanlogin.instance WHERE id = @id;

-- name: RemoveInstances :execrows
-- Those that died without a word, a day later.
DELETE FROM scanlogin.instance WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM scanlogin.instance i
    WHERE i.seen_at < now() - interval '1 day'
    LIMIT @most FOR UPDATE SKIP LOCKED
));

-- name: Instances :many
SELECT name, version, streams, draining, troubles,
    extract(epoch FROM now() - started_at)::float8 AS up_for,
    extract(epoch FROM now() - seen_at)::float8 AS unseen,
    coalesce(extract(epoch FROM now() - last_callback), -1)::float8 AS callback_age
FROM scanlogin.instance ORDER BY name, started_at;

-- name: PoolStatus :one
-- Reads the whole pool, as Overview does, but for whoever knows no settings: a code counts as
-- ready until it ends, though the last claims before that wouldn't take it.
SELECT count(*)::int AS size, count(*) FILTER (WHERE s.expires_at > now())::int AS held,
    count(*) FILTER (WHERE s.ready_until > now() AND s.ready_timeline = (SELECT scanlogin.timeline()))::int AS ready
FROM scanlogin.scene s;

-- name: WeChatStatus :many
SELECT a.appid, greatest(extract(epoch FROM a.token_until - now()), 0)::float8 AS token_for,
    extract(epoch FROM greatest(a.no_codes_until, now()) - now())::float8 AS no_codes_for,
    coalesce((SELECT c.made FROM scanlogin.wechat_codes c
              WHERE c.appid = a.appid AND c.day = (now() AT TIME ZONE 'Asia/Shanghai')::date), 0)::int AS made_today
FROM scanlogin.wechat_account a ORDER BY a.appid;
