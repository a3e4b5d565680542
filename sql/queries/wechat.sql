-- name: AddWeChatAccount :exec
INSERT INTO scanlogin.wechat_account (appid) VALUES (@appid) ON CONFLICT DO NOTHING;

-- name: Token :one
SELECT token, (renew_at > now())::bool AS fresh, (token <> '' AND token_until > now())::bool AS usable
FROM scanlogin.wechat_account WHERE appid = @appid;

-- name: StartTokenFetch :one
-- One instance at a time, and only while a token is wanted. What it returns is the turn:
-- it names the caller, who may be given up on, in what ends it.
UPDATE scanlogin.wechat_account SET fetching_until = now() + @patience::interval
WHERE appid = @appid AND renew_at <= now() AND fetching_until <= now()
RETURNING fetching_until;

-- name: SetToken :execrows
-- No row: somebody else has taken the turn since, and knows better.
UPDATE scanlogin.wechat_account
SET token = @token, token_until = now() + @expires_in::interval, renew_at = now() + @renew_in::interval, fetching_until = 'epoch'
WHERE appid = @appid AND fetching_until = @turn;

-- name: EndTokenFetch :exec
-- It failed. Where the old token works the next try can wait, else it is made at once.
UPDATE scanlogin.wechat_account
SET fetching_until = 'epoch', renew_at = CASE WHEN token = '' THEN renew_at ELSE least(token_until, now() + @pause::interval) END
WHERE appid = @appid AND fetching_until = @turn;

-- name: DropToken :exec
-- WeChat refused this one. Another may stand there by now, which stays.
UPDATE scanlogin.wechat_account SET token = '', renew_at = 'epoch'
WHERE appid = @appid AND token = @token;

-- name: CodesBlocked :one
-- For how long no code can be made, and how many were made today.
SELECT extract(epoch FROM greatest(a.no_codes_until, now()) - now())::float8 AS blocked_for,
    coalesce((SELECT c.made FROM scanlogin.wechat_codes c
              WHERE c.appid = a.appid AND c.day = (now() AT TIME ZONE 'Asia/Shanghai')::date), 0)::int AS made_today
FROM scanlogin.wechat_account a WHERE a.appid = @appid;

-- name: BlockCodes :exec
UPDATE scanlogin.wechat_account SET no_codes_until = greatest(no_codes_until, now() + @pause::interval) WHERE appid = @appid;

-- name: CountCodes :exec
INSERT INTO scanlogin.wechat_codes AS c (appid, day, made)
VALUES (@appid, (now() AT TIME ZONE 'Asia/Shanghai')::date, @made)
ON CONFLICT (appid, day) DO UPDATE SET made = c.made + excluded.made;

-- name: OriginalID :one
SELECT original_id FROM scanlogin.wechat_account WHERE appid = @appid;

-- name: LearnOriginalID :exec
UPDATE scanlogin.wechat_account SET original_id = @original_id WHERE appid = @appid AND original_id = '';

-- name: PushReply :one
SELECT reply FROM scanlogin.wechat_push WHERE id = @id;

-- name: SavePush :exec
INSERT INTO scanlogin.wechat_push (id, reply) VALUES (@id, @reply) ON CONFLICT DO NOTHING;

-- name: TakeLease :execrows
INSERT INTO scanlogin.lease AS l (name, holder, until) VALUES (@name, @holder::uuid, now() + @ttl::interval)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE l.holder = excluded.holder OR l.until <= now();

-- name: EndLease :exec
DELETE FROM scanlogin.lease WHERE name = @name AND holder = @holder::uuid;
