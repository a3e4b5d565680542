-- name: CreateSession :execrows
-- For whoever has proved the password that the account still has. A change of it waits for
-- us and ends what we make, or we see that there was one. The session that the browser had
-- before ends here: it never has two, and none that was planted in it lives on.
WITH who AS (
    SELECT a.id, a.shown_name FROM scanlogin.account a
    WHERE a.id = @account_id AND a.password_changes = @password_changes
    FOR SHARE
), replaced AS (
    DELETE FROM scanlogin.web_session s USING who WHERE s.token_hash = @replaces
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, address, browser, place, instance)
    SELECT 'login', 'password', who.id, who.shown_name, @address::inet, @browser, @place, @instance FROM who
)
INSERT INTO scanlogin.web_session (token_hash, account_id, seen_at, expires_at, browser, place)
SELECT @token_hash, who.id, now(), now() + @session_ttl::interval, @browser, @place FROM who;

-- name: Vouch :execrows
-- One row while the account has the password that was proved; no change of it until we end.
SELECT FROM scanlogin.account WHERE id = @id AND password_changes = @password_changes FOR SHARE;

-- name: SessionByHash :one
-- A session lives until it expires, as long as it is seen again within idle.
SELECT a.id AS account_id, a.shown_name AS name,
    a.created_at AS account_created_at,
    s.id, s.browser, s.place, s.created_at, s.seen_at, s.expires_at,
    extract(epoch FROM now() - s.seen_at)::float8 AS unseen,
    coalesce(a.external_id, '')::text AS external_id, a.password_changes
FROM scanlogin.web_session s JOIN scanlogin.account a ON a.id = s.account_id
WHERE s.token_hash = @token_hash AND s.expires_at > now() AND s.seen_at > now() - @idle::interval;

-- name: SawSession :execrows
-- One row for who notes it. Whoever writes it right now, or ends it, is not waited for.
UPDATE scanlogin.web_session SET seen_at = now()
WHERE token_hash = (
    SELECT s.token_hash FROM scanlogin.web_session s
    WHERE s.token_hash = @token_hash AND s.seen_at <= now() - @every::interval
    FOR NO KEY UPDATE SKIP LOCKED
);

-- name: SessionsOf :many
-- The newest first. Nobody reads more of them; whoever has more ends all others at once.
SELECT s.id, s.browser, s.place, s.created_at, s.seen_at, s.expires_at
FROM scanlogin.web_session s
WHERE s.account_id = @account_id AND s.expires_at > now() AND s.seen_at > now() - @idle::interval
ORDER BY s.created_at DESC, s.id LIMIT 1000;

-- name: DeleteSession :exec
WITH ended AS (
    DELETE FROM scanlogin.web_session s WHERE s.token_hash = @token_hash RETURNING s.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'logout', a.id, a.shown_name, @address::inet, @browser, @place, @instance
FROM ended JOIN scanlogin.account a ON a.id = ended.account_id;

-- name: HoldSession :execrows
-- One row while the session is there; it is not ended until we end.
SELECT FROM scanlogin.web_session WHERE token_hash = @token_hash AND account_id = @account_id FOR UPDATE;

-- name: RotateSession :exec
UPDATE scanlogin.web_session SET token_hash = @new_hash WHERE token_hash = @token_hash;

-- name: EndSession :execrows
WITH ended AS (
    DELETE FROM scanlogin.web_session s
    WHERE s.id = @id AND s.account_id = @account_id AND s.expires_at > now() AND s.seen_at > now() - @idle::interval
    RETURNING s.account_id
)
INSERT INTO scanlogin.audit (kind, account_id, account, address, browser, place, instance)
SELECT 'revoke', a.id, a.shown_name, @address::inet, @browser, @place, @instance
FROM ended JOIN scanlogin.account a ON a.id = ended.account_id;

-- name: EndOtherSessions :one
-- How many there were that lived. With none to keep, all are others.
WITH ended AS (
    DELETE FROM scanlogin.web_session s WHERE s.account_id = @account_id AND s.token_hash IS DISTINCT FROM @kept
    RETURNING s.expires_at > now() AND s.seen_at > now() - @idle::interval AS lived
), counted AS (
    SELECT count(*) FILTER (WHERE lived) AS n FROM ended
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, account_id, account, address, browser, place, instance, times)
    SELECT 'revoke', @why::text, a.id, a.shown_name, @address::inet, @browser, @place, @instance, counted.n
    FROM counted JOIN scanlogin.account a ON a.id = @account_id WHERE counted.n > 0
)
SELECT n FROM counted;
