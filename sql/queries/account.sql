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
    RETURNING a.id, a.shown_name
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'password_changed', c.id, c.shown_name, @address::inet, @browser, @place, @instance FROM changed c;

-- name: ChangePassword :execrows
-- Only the password that was proved, not one that was set meanwhile.
WITH changed AS (
    UPDATE scanlogin.account a SET password = @password, password_changes = a.password_changes + 1
    WHERE a.id = @id AND a.password_changes = @password_changes
    RETURNING a.id, a.shown_name
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'password_changed', c.id, c.shown_name, @address::inet, @browser, @place, @instance FROM changed c;

-- name: Rehash :exec
-- The same password, hashed anew; unless another was set meanwhile.
UPDATE scanlogin.account SET password = @password WHERE id = @id AND password = @was;

-- name: ListAccounts :many
SELECT a.id, a.shown_name AS name,
    coalesce(a.external_id, '')::text AS external_id, a.created_at, count(i.openid)::int AS ties
FROM scanlogin.account a LEFT JOIN scanlogin.wechat_identity i ON i.account_id = a.id
GROUP BY a.id ORDER BY lower(a.shown_name), a.id;

-- name: Unbind :execrows
-- A row of the log for each tie.
WITH gone AS (
    DELETE FROM scanlogin.wechat_identity i WHERE i.account_id = @account_id
    RETURNING i.appid, i.openid, i.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, person, address, browser, place, instance)
SELECT 'unbind', a.id, a.shown_name, scanlogin.person(gone.appid, gone.openid), @address::inet, @browser, @place, @instance
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
    SELECT w.kind, w.detail, a.id, a.shown_name, scanlogin.person(i.appid, i.openid), @instance, w.times
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
SELECT 'unbind', 'unfollow', a.id, a.shown_name, scanlogin.person(gone.appid, gone.openid), @instance
FROM gone JOIN scanlogin.account a ON a.id = gone.account_id;

-- name: ForeignAccount :one
-- Where nothing has changed since somebody looked: that is nearly always.
SELECT id, created_at, password_changes FROM scanlogin.account
WHERE external_id = @external_id::text AND external_name = @external_name AND external_version = @external_version;

-- name: KeepForeign :one
-- The row of a user of the team's own, made where there is none. Nobody can type its name.
INSERT INTO scanlogin.account AS a (name, password, external_id, external_name, external_version)
VALUES (' ' || gen_random_uuid(), '!', @external_id::text, @external_name, @external_version)
ON CONFLICT (external_id) WHERE external_id IS NOT NULL
DO UPDATE SET external_name = excluded.external_name
RETURNING a.id, a.created_at, a.password_changes, (a.external_version <> @external_version)::bool AS renewed;

-- name: RenewForeign :one
-- Another version is another password.
UPDATE scanlogin.account SET external_version = @external_version, password_changes = password_changes + 1
WHERE id = @id RETURNING password_changes;

-- name: AccountByForeignID :one
SELECT id, external_name, created_at FROM scanlogin.account WHERE external_id = @external_id::text;

-- name: ForeignID :one
SELECT coalesce(external_id, '')::text AS external_id FROM scanlogin.account WHERE id = @id;

-- name: SomeForeignID :one
-- Whichever the index has first.
SELECT coalesce(external_id, '')::text AS external_id FROM scanlogin.account
WHERE external_id IS NOT NULL ORDER BY external_id LIMIT 1;
