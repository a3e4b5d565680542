-- +goose Up
-- What all instances share of an Official Account.
CREATE TABLE scanlogin.wechat_account (
    appid          text PRIMARY KEY,
    token          text NOT NULL DEFAULT '',                -- the access token; WeChat gives it only to us
    token_until    timestamptz NOT NULL DEFAULT 'epoch',    -- when it ends
    renew_at       timestamptz NOT NULL DEFAULT 'epoch',    -- from when on somebody should fetch the next
    fetching_until timestamptz NOT NULL DEFAULT 'epoch',    -- somebody does, and is given up on then
    no_codes_until timestamptz NOT NULL DEFAULT 'epoch',    -- WeChat's quota is spent until then
    original_id    text NOT NULL DEFAULT ''                 -- gh_…, once a genuine push named it
);

-- QR codes made, by WeChat's day (Asia/Shanghai): 100,000 is all there is.
CREATE TABLE scanlogin.wechat_codes (
    appid text NOT NULL,
    day   date NOT NULL,
    made  integer NOT NULL,
    PRIMARY KEY (appid, day)
);

-- Pushes that were answered: WeChat repeats them, and gets the same answer.
CREATE TABLE scanlogin.wechat_push (
    id         bytea PRIMARY KEY, -- digest of FromUserName, CreateTime, Event, EventKey
    reply      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX wechat_push_age ON scanlogin.wechat_push (created_at);

-- Which instance does what one of them should do.
CREATE TABLE scanlogin.lease (
    name   text PRIMARY KEY,
    holder uuid NOT NULL,
    until  timestamptz NOT NULL
);

-- A ticket made ahead, for whoever claims the scene next; and roughly where the browser
-- of the login is, for the words to the phone.
ALTER TABLE scanlogin.scene
    ADD COLUMN place        text NOT NULL DEFAULT '',
    ADD COLUMN ready_ticket text NOT NULL DEFAULT '',
    ADD COLUMN ready_url    text NOT NULL DEFAULT '',
    ADD COLUMN ready_until  timestamptz NOT NULL DEFAULT 'epoch'; -- when WeChat lets it expire

-- ring_position is the value that the ring gave last. One that was told where to go on
-- has given none yet: it counts as just before that.
-- +goose StatementBegin
CREATE FUNCTION scanlogin.ring_position() RETURNS bigint LANGUAGE sql AS $$
    SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM scanlogin.scene_ring
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION scanlogin.ring_position();
ALTER TABLE scanlogin.scene DROP COLUMN place, DROP COLUMN ready_ticket, DROP COLUMN ready_url, DROP COLUMN ready_until;
DROP TABLE scanlogin.lease;
DROP TABLE scanlogin.wechat_push;
DROP TABLE scanlogin.wechat_codes;
DROP TABLE scanlogin.wechat_account;
