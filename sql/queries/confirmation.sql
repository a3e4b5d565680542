-- name: Ask :one
-- As Scan, but the person is asked first. Of the secrets one is taken that this person isn't
-- asked for already, if there is one: a number has to say which browser it was read from.
WITH hit AS (
    UPDATE scanlogin.scene s
    SET state = 'scanned', openid = @openid::text, account_id = NULL, expires_at = now() + @ttl::interval
    WHERE s.id = @id AND s.ticket = @ticket AND s.ticket <> '' AND s.state = 'waiting' AND s.expires_at > now()
    RETURNING s.id, s.login, s.expires_at, s.place, s.browser
), asked AS (
    INSERT INTO scanlogin.confirmation (login, scene, appid, openid, kind, secret, expires_at)
    SELECT hit.login, hit.id, @appid, @openid::text, @kind, free.secret, hit.expires_at
    FROM hit CROSS JOIN LATERAL (
        SELECT u.secret
        FROM (SELECT unnest(@secrets::text[]) AS secret) u LEFT JOIN scanlogin.confirmation c
            ON c.appid = @appid AND c.openid = @openid::text AND c.secret = u.secret AND c.expires_at > now()
        ORDER BY c.login IS NOT NULL LIMIT 1
    ) free
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT @push::bytea, 'to_confirm' FROM hit WHERE length(@push::bytea) > 0
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, person, browser, place, instance)
    SELECT 'scan', 'to_confirm', hit.login, scanlogin.person(@appid, @openid::text), coalesce(hit.browser, ''), hit.place, @instance FROM hit
)
SELECT login FROM hit;

-- name: QuestionTo :one
-- What the person is told who has scanned this code.
SELECT c.login, c.kind, (CASE WHEN c.kind = 'code' THEN c.secret ELSE '' END)::text AS code, s.place, coalesce(s.browser, '')::text AS browser
FROM scanlogin.scene s JOIN scanlogin.confirmation c ON c.login = s.login AND c.scene = s.id
WHERE s.id = @id AND s.ticket = @ticket AND s.state = 'scanned' AND s.expires_at > now()
    AND c.appid = @appid AND c.openid = @openid;

-- name: Questions :many
-- What the browsers are told of these logins: never a code, which is for the person alone.
SELECT login, kind, (CASE WHEN kind = 'reply' THEN secret ELSE '' END)::text AS number
FROM scanlogin.confirmation WHERE login = ANY (@logins::uuid[]);

-- name: AwaitsAnswer :one
SELECT EXISTS (
    SELECT FROM scanlogin.confirmation
    WHERE appid = @appid AND openid = @openid AND kind = 'reply' AND expires_at > now()
)::bool AS asked;

-- name: Answer :many
-- What one message of a person leads to. All that the person is asked is locked first, scene
-- by scene: two messages at once are judged one after the other, and tries can't be lost.
-- Only the message that is new counts: what was made of it is kept for when it is pushed
-- again. Where two logins have the same number, the newest is meant.
WITH asked AS (
    SELECT c.login, c.scene, c.wrong + 1 AS tries, c.expires_at, (NOT @decline::bool AND c.secret = @number::text) AS fits, s.place, s.browser
    FROM scanlogin.confirmation c JOIN scanlogin.scene s ON s.id = c.scene AND s.login = c.login
    WHERE c.appid = @appid AND c.openid = @openid::text AND (c.kind = 'reply' OR @decline::bool)
        AND s.state = 'scanned' AND s.expires_at > now()
    ORDER BY s.id FOR UPDATE OF c, s
), chosen AS (
    SELECT login FROM asked WHERE fits ORDER BY expires_at DESC, login LIMIT 1
), tie AS (
    SELECT account_id FROM scanlogin.wechat_identity WHERE appid = @appid AND openid = @openid::text
), judged AS (
    SELECT a.login, a.scene, a.place, a.browser, (CASE
        WHEN a.login = chosen.login AND EXISTS (SELECT FROM tie) THEN 'logged_in'
        WHEN a.login = chosen.login THEN 'must_bind'
        WHEN @decline::bool THEN 'declined'
        WHEN a.tries < @most::int THEN 'wrong_number'
        ELSE 'wrong_thrice' END)::text AS outcome
    FROM asked a LEFT JOIN chosen ON true
    WHERE chosen.login IS NULL OR a.login = chosen.login
), kept AS (
    INSERT INTO scanlogin.wechat_push (id, reply)
    SELECT @push::bytea, outcome FROM judged ORDER BY outcome <> 'wrong_number' LIMIT 1
    ON CONFLICT DO NOTHING
    RETURNING reply
), counted AS (
    UPDATE scanlogin.confirmation c SET wrong = c.wrong + 1
    FROM judged j, kept WHERE j.outcome = 'wrong_number' AND c.login = j.login
), moved AS (
    UPDATE scanlogin.scene s
    SET state = CASE j.outcome WHEN 'logged_in' THEN 'authenticated' WHEN 'must_bind' THEN 'bind_required' ELSE 'declined' END,
        account_id = (SELECT account_id FROM tie WHERE j.outcome = 'logged_in'),
        expires_at = CASE WHEN j.outcome IN ('logged_in', 'must_bind') THEN now() + @bind_ttl::interval ELSE now() END
    FROM judged j, kept
    WHERE j.outcome <> 'wrong_number' AND s.id = j.scene AND s.login = j.login AND s.state = 'scanned' AND s.expires_at > now()
    RETURNING s.login, s.place, s.browser
), over AS (
    DELETE FROM scanlogin.confirmation c USING moved WHERE c.login = moved.login
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, browser, place, instance)
    SELECT CASE WHEN j.outcome IN ('logged_in', 'must_bind') THEN 'confirm' WHEN j.outcome = 'declined' THEN 'decline' ELSE 'wrong_confirm' END,
        j.outcome, j.login, a.id, a.shown_name, scanlogin.person(@appid, @openid::text), coalesce(j.browser, ''), j.place, @instance
    FROM judged j CROSS JOIN kept LEFT JOIN scanlogin.account a ON a.id = (SELECT account_id FROM tie)
)
SELECT kept.reply, moved.login, coalesce(moved.place, '')::text AS place, coalesce(moved.browser, '')::text AS browser
FROM kept LEFT JOIN moved ON true;

-- name: ConfirmCode :one
-- No row: this login waits for no code. The lock is as in Answer.
WITH asked AS (
    SELECT c.login, c.scene, c.wrong + 1 AS tries, c.secret = @code::text AS fits, c.appid, c.openid
    FROM scanlogin.confirmation c JOIN scanlogin.scene s ON s.id = c.scene AND s.login = c.login
    WHERE c.login = @login::uuid AND c.scene = @id AND c.kind = 'code' AND s.state = 'scanned' AND s.expires_at > now()
    FOR UPDATE OF c, s
), judged AS (
    SELECT a.login, a.scene, a.appid, a.openid, i.account_id, a.fits, (CASE WHEN a.fits THEN 0 ELSE greatest(sqlc.arg(most)::int - a.tries, 0) END)::int AS tries_left
    FROM asked a LEFT JOIN scanlogin.wechat_identity i ON i.appid = a.appid AND i.openid = a.openid
), counted AS (
    UPDATE scanlogin.confirmation c SET wrong = c.wrong + 1
    FROM judged j WHERE j.tries_left > 0 AND c.login = j.login
), moved AS (
    UPDATE scanlogin.scene s
    SET state = CASE WHEN NOT j.fits THEN 'declined' WHEN j.account_id IS NULL THEN 'bind_required' ELSE 'authenticated' END,
        account_id = CASE WHEN j.fits THEN j.account_id END,
        expires_at = CASE WHEN j.fits THEN now() + @bind_ttl::interval ELSE now() END
    FROM judged j
    WHERE j.tries_left = 0 AND s.id = j.scene AND s.login = j.login AND s.state = 'scanned' AND s.expires_at > now()
    RETURNING s.login
), over AS (
    DELETE FROM scanlogin.confirmation c USING moved WHERE c.login = moved.login
), noted AS (
    INSERT INTO scanlogin.audit (kind, detail, login, account_id, account, person, address, browser, place, instance)
    SELECT CASE WHEN j.fits THEN 'confirm' ELSE 'wrong_confirm' END,
        CASE WHEN NOT j.fits THEN CASE WHEN j.tries_left > 0 THEN 'wrong_code' ELSE 'wrong_thrice' END WHEN j.account_id IS NULL THEN 'must_bind' ELSE 'logged_in' END,
        j.login, a.id, a.shown_name, scanlogin.person(j.appid, j.openid), @address::inet, @browser, @place, @instance
    FROM judged j LEFT JOIN scanlogin.account a ON a.id = j.account_id
)
SELECT fits::bool AS fits, tries_left FROM judged;
