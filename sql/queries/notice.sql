-- name: AddNotice :exec
-- In the transaction of what it is about, while the ties are there that it takes with it.
INSERT INTO scanlogin.notice (account_id, kind, browser, place, openids)
VALUES (@account_id::bigint, @kind, @browser, @place,
    ARRAY(SELECT i.openid FROM scanlogin.wechat_identity i WHERE i.account_id = @account_id::bigint));

-- name: ClaimNotices :many
-- Those whose phones nobody is telling. What it returns as turn names the caller, who may be
-- given up on, in what ends it.
UPDATE scanlogin.notice SET telling_until = now() + @patience::interval
WHERE id = ANY (ARRAY(
    SELECT n.id FROM scanlogin.notice n
    WHERE n.openids <> '{}' AND n.telling_until <= now()
    ORDER BY n.at LIMIT @most FOR UPDATE SKIP LOCKED
))
RETURNING id, kind, at, browser, place, openids, telling_until AS turn;

-- name: EndNotice :exec
-- The phones were told.
DELETE FROM scanlogin.notice WHERE id = @id AND telling_until = @turn;

-- name: LeaveNotice :exec
-- They weren't, and the user centre tells. No openid is kept for that.
UPDATE scanlogin.notice SET openids = '{}', telling_until = 'epoch' WHERE id = @id AND telling_until = @turn;

-- name: NoticesOf :many
-- The newest first, but those which a phone is about to be told of. Nobody reads more of them.
SELECT id, kind, at, browser, place FROM scanlogin.notice
WHERE account_id = @account_id AND (openids = '{}' OR at <= now() - @patience::interval)
ORDER BY at DESC, id DESC LIMIT 100;

-- name: SeenNotices :execrows
DELETE FROM scanlogin.notice WHERE account_id = @account_id AND id = ANY (@ids::bigint[]);
