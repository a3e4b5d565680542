-- +goose Up
-- As in 00004: give up instead of holding up every login behind us.
SET LOCAL lock_timeout = '5s';

-- Whoever is signed in is written down as seen, once a minute. With room on the page and no
-- index on the time such a write is HOT. Set before the table is written anew, below.
ALTER TABLE scanlogin.web_session SET (fillfactor = 80);

-- What a person needs to tell their sessions apart. The id is for them to name one by: it
-- opens nothing. It has no index: it is only looked for among the sessions of one account.
-- Sessions that are there already count as seen now; for their ids the table is written
-- anew, some seconds for a million of them, in which nobody can be asked who they are.
ALTER TABLE scanlogin.web_session
    ADD COLUMN id      uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN browser text NOT NULL DEFAULT '',         -- its User-Agent
    ADD COLUMN place   text NOT NULL DEFAULT '',         -- where it signed in, as a proxy of ours said
    ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now();

-- How often the password was changed: who has proved an older one has proved nothing.
ALTER TABLE scanlogin.account ADD COLUMN password_changes integer NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE scanlogin.account DROP COLUMN password_changes;
ALTER TABLE scanlogin.web_session DROP COLUMN id, DROP COLUMN browser, DROP COLUMN place, DROP COLUMN seen_at;
ALTER TABLE scanlogin.web_session RESET (fillfactor);
