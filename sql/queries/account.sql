-- name: CreateAccount :one
WITH made AS (
    INSERT INTO scanlogin.account (name, password) VALUES (@name, @password)
    ON CONFLICT DO NOTHING
    RETURNING id, name, created_at
), noted AS (
    INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
    SELECT 'signup', m.id, m.name, @address::inet, @browser, @place, @instance FROM made m
)
SELECT id, created_at FROM made;

-- name: AccountByName :one
SELECT id, name, password, password_changes, created_at FROM scanlogin.account WHERE lower(name) = lower(@name);

-- name: SetPassword :execrows
WITH changed AS (
    UPDATE scanlogin.account a SET password = @password, password_changes = a.password_changes + 1 WHERE a.id = @id
    RETURNING a.id, a.name
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'password_changed', c.id, c.name, @address::inet, @browser, @place, @instance FROM changed c;

-- name: ChangePassword :execrows
-- Only the password that was proved, not one that was set meanwhile.
WITH changed AS (
    UPDATE scanlogin.account a SET password = @password, password_changes = a.password_changes + 1
    WHERE a.id = @id AND a.password_changes = @password_changes
    RETURNING a.id, a.name
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'password_changed', c.id, c.name, @address::inet, @browser, @place, @instance FROM changed c;

-- name: Rehash :exec
-- The same password, hashed anew; unless another was set meanwhile.
UPDATE scanlogin.account SET password = @password WHERE id = @id AND password = @was;

-- name: ListAccounts :many
SELECT a.id, a.name, a.created_at, count(i.openid)::int AS ties
FROM scanlogin.account a LEFT JOIN scanlogin.wechat_identity i ON i.account_id = a.id
GROUP BY a.id ORDER BY lower(a.name);

-- name: Unbind :execrows
-- A row of the log for each tie.
WITH gone AS (
    DELETE FROM scanlogin.wechat_identity i WHERE i.account_id = @account_id
    RETURNING i.appid, i.openid, i.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, person, address, browser, place, instance)
SELECT 'unbind', a.id, a.name, scanlogin.person(gone.appid, gone.openid), @address::inet, @browser, @place, @instance
FROM gone JOIN scanlogin.account a ON a.id = gone.account_id;

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

-- name: EndSessionsOfOpenID :one
-- How many there were. Nothing is noted of a person whom nobody knows.
WITH ended AS (
    DELETE FROM scanlogin.web_session s USING scanlogin.wechat_identity i
    WHERE i.appid = @appid AND i.openid = @openid AND s.account_id = i.account_id
    RETURNING s.account_id
), counted AS (
    SELECT count(*) AS n FROM ended
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, instance, times)
    SELECT w.kind, w.detail, a.id, a.name, scanlogin.person(i.appid, i.openid), @instance, w.times
    FROM scanlogin.wechat_identity i JOIN scanlogin.account a ON a.id = i.account_id CROSS JOIN counted
        CROSS JOIN LATERAL (VALUES ('unfollow', '', 1), ('revoke', 'unfollow', counted.n::int)) w (kind, detail, times)
    WHERE i.appid = @appid AND i.openid = @openid AND w.times > 0
)
SELECT n FROM counted;

-- name: UnbindOpenID :execrows
WITH gone AS (
    DELETE FROM scanlogin.wechat_identity i WHERE i.appid = @appid AND i.openid = @openid
    RETURNING i.appid, i.openid, i.account_id
)
INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, instance)
SELECT 'unbind', 'unfollow', a.id, a.name, scanlogin.person(gone.appid, gone.openid), @instance
FROM gone JOIN scanlogin.account a ON a.id = gone.account_id;
