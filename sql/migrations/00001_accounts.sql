-- +goose Up
CREATE TABLE scanlogin.account (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    password   text NOT NULL, -- argon2id, PHC string format
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX account_name ON scanlogin.account (lower(name));

-- An openid names a person for one Official Account only, so the key is the pair.
CREATE TABLE scanlogin.wechat_identity (
    appid      text NOT NULL,
    openid     text NOT NULL,
    account_id bigint NOT NULL REFERENCES scanlogin.account ON DELETE CASCADE,
    bound_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (appid, openid)
);
CREATE INDEX wechat_identity_account ON scanlogin.wechat_identity (account_id);

CREATE TABLE scanlogin.web_session (
    token_hash bytea PRIMARY KEY, -- SHA-256 of the cookie: a copy of this table logs nobody in
    account_id bigint NOT NULL REFERENCES scanlogin.account ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX web_session_account ON scanlogin.web_session (account_id);

-- +goose Down
DROP TABLE scanlogin.web_session;
DROP TABLE scanlogin.wechat_identity;
DROP TABLE scanlogin.account;
