-- +goose Up
-- As in 00004: give up instead of holding up every login behind us.
SET LOCAL lock_timeout = '5s';

-- A user of the team's own (ACCOUNTS=sql) has a row here too, for ties and sessions to refer
-- to. It is found by their id alone. Their names may collide with those of others, change
-- and be swapped, so the columns that were there hold what can be neither found nor proved,
-- by an older version either: a name that begins with a space, and no hash.
ALTER TABLE scanlogin.account
    ADD COLUMN external_id      text,                     -- the team's own id; NULL: an account of ours
    ADD COLUMN external_name    text NOT NULL DEFAULT '', -- as it was when somebody last looked
    ADD COLUMN external_version text NOT NULL DEFAULT '', -- of the password, where they tell one
    -- What people and the audit log call it. For it the table is written anew.
    ADD COLUMN shown_name text NOT NULL GENERATED ALWAYS AS (CASE WHEN external_id IS NULL THEN name ELSE external_name END) STORED;
CREATE UNIQUE INDEX account_external_id ON scanlogin.account (external_id) WHERE external_id IS NOT NULL;

-- +goose Down
DELETE FROM scanlogin.account WHERE external_id IS NOT NULL;
ALTER TABLE scanlogin.account DROP COLUMN shown_name, DROP COLUMN external_id, DROP COLUMN external_name, DROP COLUMN external_version;
