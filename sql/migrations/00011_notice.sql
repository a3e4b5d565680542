-- +goose Up
SET LOCAL lock_timeout = '5s';

-- What the owner of an account is to be told of it. A row is there until a phone was told, or
-- the owner has read it in the user centre and said so.
CREATE TABLE scanlogin.notice (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    bigint NOT NULL,                    -- no reference: age removes what an account leaves
    kind          text NOT NULL CHECK (kind IN ('bound', 'unbound', 'password_changed')),
    at            timestamptz NOT NULL DEFAULT now(),
    browser       text NOT NULL,                      -- that asked for it, by its User-Agent
    place         text NOT NULL,                      -- where that was, as a proxy of ours said
    openids       text[] NOT NULL,                    -- whose phones are to be told; empty: that is over
    telling_until timestamptz NOT NULL DEFAULT 'epoch' -- an instance tells them, and is given up on then
);
CREATE INDEX notice_account ON scanlogin.notice (account_id);
CREATE INDEX notice_untold ON scanlogin.notice (at) WHERE openids <> '{}';
CREATE INDEX notice_age ON scanlogin.notice (at);

-- +goose Down
DROP TABLE scanlogin.notice;
