-- name: TakeLimits :one
-- The migration tells what comes in and out.
SELECT scanlogin.take_limits(
    @keys::bytea[], @ask::integer[], @key_of::integer[], @bursts::integer[], @steps::float8[], @growing::boolean[]
)::float8[] AS waits;

-- name: GiveBackLimits :exec
-- One of each: of a growing one, all that was tried. Locked in the order of the keys, as by
-- whoever takes.
WITH back AS (
    SELECT r.key, b.step, b.growing
    FROM (
        SELECT unnest(@keys::bytea[]) AS key, unnest(@steps::float8[]) AS step, unnest(@growing::boolean[]) AS growing
    ) b JOIN scanlogin.rate_limit r ON r.key = b.key
    ORDER BY r.key FOR UPDATE OF r
)
UPDATE scanlogin.rate_limit r
SET tat = CASE WHEN back.growing THEN now() ELSE r.tat - back.step * interval '1 s' END, tries = 0
FROM back WHERE r.key = back.key;

-- name: RemoveLimits :one
-- Of the next keys those that are full again since so long. They are walked in their order,
-- because an index on tat would make every take an entry in it.
WITH walked AS (
    SELECT w.key FROM scanlogin.rate_limit w WHERE w.key > @after ORDER BY w.key LIMIT @most
), gone AS (
    DELETE FROM scanlogin.rate_limit WHERE ctid = ANY (ARRAY(
        SELECT r.ctid FROM scanlogin.rate_limit r JOIN walked ON walked.key = r.key
        WHERE r.tat < now() - @keep::interval
        ORDER BY r.key FOR UPDATE OF r SKIP LOCKED
    ))
    RETURNING 1
)
SELECT (SELECT count(*) FROM walked) AS walked, (SELECT count(*) FROM gone) AS removed,
    coalesce((SELECT key FROM walked ORDER BY key DESC LIMIT 1), '')::bytea AS last;
