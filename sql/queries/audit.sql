-- name: NoteRefusals :exec
-- What was refused; rows that belong together are at the same place in each array. Of an
-- account that was tried the name is kept only where somebody has it: people type their
-- password into the wrong field.
INSERT INTO scanlogin.audit (kind, detail, account_id, account, person, address, browser, place, instance, times)
SELECT u.kind, u.detail, a.id, a.shown_name, nullif(u.person, ''), nullif(u.address, '')::inet, u.browser, u.place, @instance, u.times
FROM (
    SELECT unnest(@kinds::text[]) AS kind, unnest(@details::text[]) AS detail, unnest(@accounts::text[]) AS account,
        unnest(@persons::text[]) AS person, unnest(@addresses::text[]) AS address,
        unnest(@browsers::text[]) AS browser, unnest(@places::text[]) AS place, unnest(@times::integer[]) AS times,
        generate_subscripts(@kinds::text[], 1) AS place_in_line
) u LEFT JOIN scanlogin.account a ON u.account <> '' AND lower(a.name) = lower(u.account)
ORDER BY u.place_in_line;

-- name: AuditLog :many
-- The newest of the rows that are asked for, the oldest first. What isn't asked about is
-- empty. A row is new to whoever has looked before if the transaction that wrote it
-- was still to be seen then; rows don't come in the order of their ids, nor of their times.
-- No transaction of ours takes an hour.
-- (xmin is the lower half of a transaction's number. One that comes after upto began is far
-- in the past then, so not new yet.)
SELECT l.at, l.id, l.kind, l.detail, l.login, l.account_id, l.account, l.person, l.address, l.browser, l.place, l.instance, l.times
FROM (
    SELECT a.*
    FROM scanlogin.audit a, (SELECT pg_snapshot_xmax(CAST(@upto::text AS pg_snapshot))::text::bigint AS next) t,
        LATERAL (SELECT greatest(t.next - ((t.next - a.xmin::text::bigint) & 4294967295), 3)::text::xid8 AS number) x
    WHERE a.at >= greatest(@since, CASE WHEN @seen::text <> '' THEN now() - interval '1 hour' END) AND a.at < @until
        AND pg_visible_in_snapshot(x.number, CAST(@upto::text AS pg_snapshot))
        AND NOT coalesce(pg_visible_in_snapshot(x.number, CAST(nullif(@seen::text, '') AS pg_snapshot)), false)
        AND (@kind::text = '' OR a.kind = @kind) AND (@account::text = '' OR lower(a.account) = lower(@account))
        AND (@login::text = '' OR replace(a.login::text, '-', '') LIKE @login || '%')
        AND (@network::text = '' OR a.address <<= nullif(@network, '')::inet)
        AND (@instance::text = '' OR a.instance = @instance)
        AND (@person::text = '' OR a.person = @person)
        AND (@openid::text = '' OR a.person IN (SELECT scanlogin.person(w.appid, @openid) FROM scanlogin.wechat_account w))
    ORDER BY a.at DESC, a.id DESC LIMIT @most
) l
ORDER BY l.at, l.id;

-- name: Snapshot :one
SELECT pg_current_snapshot()::text AS snapshot;
