-- name: CreateAccount :one
INSERT INTO scanlogin.account (name, password) VALUES (@name, @password)
ON CONFLICT DO NOTHING
RETURNING id, created_at;

-- name: AccountByName :one
SELECT id, name, password, password_changes, created_at FROM scanlogin.account WHERE lower(name) = lower(@name);

-- name: SetPassword :execrows
UPDATE scanlogin.account SET password = @password, password_changes = password_changes + 1 WHERE id = @id;

-- name: ChangePassword :execrows
-- Only the password that was proved, not one that was set meanwhile.
UPDATE scanlogin.account SET password = @password, password_changes = password_changes + 1
WHERE id = @id AND password_changes = @password_changes;

-- name: Rehash :exec
-- The same password, hashed anew; unless another was set meanwhile.
UPDATE scanlogin.account SET password = @password WHERE id = @id AND password = @was;

-- name: ListAccounts :many
SELECT a.id, a.name, a.created_at, count(i.openid)::int AS ties
FROM scanlogin.account a LEFT JOIN scanlogin.wechat_identity i ON i.account_id = a.id
GROUP BY a.id ORDER BY lower(a.name);

-- name: Unbind :execrows
DELETE FROM scanlogin.wechat_identity WHERE account_id = @account_id;

-- name: Identities :many
SELECT bound_at FROM scanlogin.wechat_identity WHERE account_id = @account_id ORDER BY bound_at;

-- name: LockAccount :exec
-- Whoever ends more than one session of an account comes here first, so that no two of them
-- wait for each other.
SELECT FROM scanlogin.account WHERE id = @id FOR NO KEY UPDATE;

-- name: LockAccountOfOpenID :exec
SELECT FROM scanlogin.account a JOIN scanlogin.wechat_identity i ON i.account_id = a.id
WHERE i.appid = @appid AND i.openid = @openid FOR NO KEY UPDATE OF a;

-- name: LockTie :exec
SELECT FROM scanlogin.wechat_identity WHERE appid = @appid AND openid = @openid FOR UPDATE;

-- name: EndSessionsOfOpenID :execrows
DELETE FROM scanlogin.web_session s USING scanlogin.wechat_identity i
WHERE i.appid = @appid AND i.openid = @openid AND s.account_id = i.account_id;

-- name: UnbindOpenID :execrows
DELETE FROM scanlogin.wechat_identity WHERE appid = @appid AND openid = @openid;
