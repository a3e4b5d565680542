-- +goose Up
-- The instances, as each tells of itself every few seconds: for the operator's eyes, nothing
-- depends on it. One that ends in good order takes its row away. As in 00004, rows that are
-- written again and again have room beside them.
CREATE TABLE scanlogin.instance (
    id            uuid PRIMARY KEY,                 -- of this life of the process
    name          text NOT NULL,
    version       text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    seen_at       timestamptz NOT NULL DEFAULT now(),
    streams       integer NOT NULL,                 -- open there
    draining      boolean NOT NULL,                 -- it was told to stop
    last_callback timestamptz,                      -- the last genuine push that it got from WeChat
    troubles      jsonb NOT NULL DEFAULT '[]'       -- its last warnings and errors, the newest first
) WITH (fillfactor = 10);

-- +goose Down
DROP TABLE scanlogin.instance;
