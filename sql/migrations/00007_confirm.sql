-- +goose Up
SET LOCAL lock_timeout = '5s';

-- A login that was scanned waits to be confirmed, where the setting says so.
ALTER TABLE scanlogin.scene DROP CONSTRAINT scene_state_check, ADD CONSTRAINT scene_state_check
    CHECK (state IN ('waiting', 'scanned', 'authenticated', 'bind_required', 'completed', 'declined', 'expired'));

-- Which browser shows the code, for the words to the phone. NULL takes no room in the row
-- that every login rewrites.
ALTER TABLE scanlogin.scene ADD COLUMN browser text;

-- What the people who have scanned are asked. It is beside the scene: an index on who has
-- scanned would cost every claim its HOT update, also where nobody is asked anything.
CREATE TABLE scanlogin.confirmation (
    login      uuid PRIMARY KEY,
    scene      integer NOT NULL,             -- that the login holds
    appid      text NOT NULL,
    openid     text NOT NULL,                -- who has scanned, and may answer
    kind       text NOT NULL CHECK (kind IN ('reply', 'code')),
    secret     text NOT NULL,                -- the number on the page, or the code that the person was sent
    wrong      integer NOT NULL DEFAULT 0,   -- answers so far
    expires_at timestamptz NOT NULL          -- as the login does
);
CREATE INDEX confirmation_person ON scanlogin.confirmation (appid, openid);
-- For who removes those that nobody has answered.
CREATE INDEX confirmation_expiry ON scanlogin.confirmation (expires_at);

-- +goose Down
DROP TABLE scanlogin.confirmation;
ALTER TABLE scanlogin.scene DROP COLUMN browser;
UPDATE scanlogin.scene SET state = 'expired', expires_at = least(expires_at, now()) WHERE state IN ('scanned', 'declined');
ALTER TABLE scanlogin.scene DROP CONSTRAINT scene_state_check, ADD CONSTRAINT scene_state_check
    CHECK (state IN ('waiting', 'authenticated', 'bind_required', 'completed', 'expired'));
