-- name: Overview :one
-- What all instances share, in numbers. It reads the whole pool: some milliseconds for ten
-- thousand scenes.
SELECT pool.free, pool.resting, pool.held, pool.ready,
    extract(epoch FROM greatest(a.token_until, now()) - now())::float8 AS token_left,
    extract(epoch FROM greatest(a.no_codes_until, now()) - now())::float8 AS blocked_for,
    coalesce((SELECT c.made FROM scanlogin.wechat_codes c
              WHERE c.appid = a.appid AND c.day = (now() AT TIME ZONE 'Asia/Shanghai')::date), 0)::int AS made_today
FROM scanlogin.wechat_account a CROSS JOIN (
    SELECT count(*) FILTER (WHERE s.expires_at <= now() - @rest::interval) AS free,
        count(*) FILTER (WHERE s.expires_at <= now() AND s.expires_at > now() - @rest::interval) AS resting,
        count(*) FILTER (WHERE s.expires_at > now()) AS held,
        count(*) FILTER (WHERE s.ready_until >= now() + @ttl::interval AND s.ready_timeline = (SELECT scanlogin.timeline())) AS ready
    FROM scanlogin.scene s
) pool
WHERE a.appid = @appid;
