-- name: CreateAccount :one
INSERT INTO scanlogin.account (name, password) VALUES (@name, @password)
ON CONFLICT DO NOTHING
RETURNING id, created_at;

-- name: AccountByName :one
SELECT id, name, password, created_at FROM scanlogin.account WHERE lower(name) = lower(@name);

-- name: SetPassword :execrows
UPDATE scanlogin.account SET password = @password WHERE id = @id;

-- name: ListAccounts :many
SELECT a.id, a.name, a.created_at, count(i.openid)::int AS ties
FROM scanlogin.account a LEFT JOIN scanlogin.wechat_identity i ON i.account_id = a.id
GROUP BY a.id ORDER BY lower(a.name);

-- name: Unbind :execrows
DELETE FROM scanlogin.wechat_identity WHERE account_id = @account_id;

-- name: Identities :many
SELECT bound_at FROM scanlogin.wechat_identity WHERE account_id = @account_id ORDER BY bound_at;

-- name: CreateSession :exec
INSERT INTO scanlogin.web_session (token_hash, account_id, expires_at)
VALUES (@token_hash, @account_id, now() + @session_ttl::interval);

-- name: SessionByHash :one
SELECT a.id, a.name, a.created_at, s.created_at AS session_created_at, s.expires_at
FROM scanlogin.web_session s JOIN scanlogin.account a ON a.id = s.account_id
WHERE s.token_hash = @token_hash AND s.expires_at > now();

-- name: DeleteSession :exec
DELETE FROM scanlogin.web_session WHERE token_hash = @token_hash;

-- name: LockTie :exec
SELECT FROM scanlogin.wechat_identity WHERE appid = @appid AND openid = @openid FOR UPDATE;

-- name: EndSessionsOfOpenID :execrows
DELETE FROM scanlogin.web_session s USING scanlogin.wechat_identity i
WHERE i.appid = @appid AND i.openid = @openid AND s.account_id = i.account_id;

-- name: UnbindOpenID :execrows
DELETE FROM scanlogin.wechat_identity WHERE appid = @appid AND openid = @openid;
