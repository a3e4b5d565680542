-- +goose Up
-- How much of what they may do somebody has used up. A key is a digest: whose it is can't
-- be read from here. UNLOGGED, so that a check writes nothing to the WAL: after a crash of
-- PostgreSQL, and on a standby that is promoted, everybody begins anew, which gives away
-- one burst. As good as every write is HOT: there is no index but the key's, and room on
-- the page.
CREATE UNLOGGED TABLE scanlogin.rate_limit (
    key   bytea PRIMARY KEY,
    tat   timestamptz NOT NULL DEFAULT 'epoch', -- theoretical arrival time: when all that was used is there again
    tries integer NOT NULL DEFAULT 0            -- of a limit whose waits grow
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- take_limits is the generic cell rate algorithm (ITU-T I.371, annex A; "virtual
-- scheduling") for many askers at once, in the order in which they ask. An ask takes from
-- all of its keys, or where one has too little, from none.
--
-- keys are in ascending order, each once. What follows has an element for each key of each
-- ask, those of one ask together: which ask, which key, how many may come at once, one of
-- them is there again after how many seconds, and whether the waits grow. The answer is how
-- many seconds the ask has to wait for this key: 0, where it has enough.
--
-- A growing limit lets as many through at once, too. From then on the waits begin with a
-- second and double, until they are as long as those of a steady limit. What was tried is
-- forgotten once the key was left alone for the time in which a steady one is full again.
--
-- Whoever takes from the same keys waits for us, from the lowest key on: no deadlock.
-- +goose StatementBegin
CREATE FUNCTION scanlogin.take_limits(keys bytea[], ask integer[], key_of integer[], bursts integer[], steps float8[], growing boolean[])
RETURNS float8[] LANGUAGE plpgsql AS $$
DECLARE
    debts   float8[];  -- of each key: seconds until it is full again, negative: since when it is
    tried   integer[];
    taken   boolean[] := array_fill(false, ARRAY[cardinality(keys)]);
    waits   float8[];
    first   integer := 1; -- of the ask at hand
    refused boolean := false;
    k       integer;
BEGIN
    LOOP
        INSERT INTO scanlogin.rate_limit (key) SELECT unnest(keys) ON CONFLICT DO NOTHING;
        SELECT array_agg(extract(epoch FROM l.tat - now())::float8 ORDER BY l.key), array_agg(l.tries ORDER BY l.key)
        INTO debts, tried
        FROM (SELECT r.key, r.tat, r.tries FROM scanlogin.rate_limit r WHERE r.key = ANY (keys) ORDER BY r.key FOR UPDATE) l;
        EXIT WHEN cardinality(debts) = cardinality(keys); -- else some were removed in between
    END LOOP;
    FOR i IN 1 .. cardinality(ask) LOOP
        k := key_of[i];
        IF growing[i] THEN
            IF debts[k] < -bursts[i] * steps[i] THEN
                tried[k] := 0;
            END IF;
            waits[i] := greatest(debts[k], 0);
        ELSE
            waits[i] := greatest(greatest(debts[k], 0) - (bursts[i] - 1) * steps[i], 0);
        END IF;
        IF waits[i] < 0.000001 THEN -- as far as timestamps go
            waits[i] := 0;
        ELSE
            refused := true;
        END IF;
        CONTINUE WHEN i < cardinality(ask) AND ask[i + 1] = ask[i];
        IF NOT refused THEN
            FOR j IN first .. i LOOP
                k := key_of[j];
                taken[k] := true;
                IF NOT growing[j] THEN
                    debts[k] := greatest(debts[k], 0) + steps[j];
                    CONTINUE;
                END IF;
                tried[k] := tried[k] + 1;
                debts[k] := CASE WHEN tried[k] < bursts[j] THEN 0 ELSE least(steps[j], 2.0 ^ least(tried[k] - bursts[j], 30)) END;
            END LOOP;
        END IF;
        first := i + 1;
        refused := false;
    END LOOP;
    UPDATE scanlogin.rate_limit r
    SET tat = now() + u.debt * interval '1 s', tries = u.tried
    FROM unnest(keys, debts, tried, taken) AS u (key, debt, tried, taken)
    WHERE r.key = u.key AND u.taken;
    RETURN waits;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION scanlogin.take_limits(bytea[], integer[], integer[], integer[], float8[], boolean[]);
DROP TABLE scanlogin.rate_limit;
