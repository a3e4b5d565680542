-- +goose Up
-- A lock that somebody else's long transaction holds up would hold up every login behind
-- us: give up instead, whoever started us tries again.
SET LOCAL lock_timeout = '5s';

-- timeline names the history that this database is writing. It changes in the moment in
-- which a standby is promoted (pg_control_checkpoint's changes a checkpoint later), and
-- when a backup is restored by way of the WAL. It costs half a microsecond: a volatile
-- SQL function of one expression is inlined.
-- Whoever owns the schema may replace it, where the server has no such functions: it has
-- to return another text after each failover that may have lost what was committed, and
-- a constant will do where none can.
-- +goose StatementBegin
CREATE FUNCTION scanlogin.timeline() RETURNS text LANGUAGE sql AS $$
    SELECT substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)
$$;
-- +goose StatementEnd

-- A ready ticket may be shown on the timeline only on which it was stored. A standby that
-- is promoted may still have one which a claim, lost with the old primary, has shown
-- already; shown again, a scan of the first picture would log in the second browser.
-- Empty: stored by an instance that doesn't know of timelines yet.
ALTER TABLE scanlogin.scene ADD COLUMN ready_timeline text NOT NULL DEFAULT '';

-- For who removes the sessions that have ended.
CREATE INDEX web_session_expiry ON scanlogin.web_session (expires_at);

-- A row of these is written again and again, several times a second when it is busy. On
-- pages that are nine tenths empty its new versions find room beside it, and take the
-- place of the old ones without an entry in an index (HOT), and without a vacuum.
ALTER TABLE scanlogin.wechat_account SET (fillfactor = 10);
ALTER TABLE scanlogin.wechat_codes SET (fillfactor = 10);
ALTER TABLE scanlogin.lease SET (fillfactor = 10);

-- Every scene is written several times a login, and nearly all of that is HOT and cleaned
-- up by the next write to its page. What isn't (while a backup keeps old versions alive)
-- is vacuumed from a twentieth of the pool on instead of a fifth, so that the table that
-- every claim reads stays small. There is no index to go through but the primary key's.
ALTER TABLE scanlogin.scene SET (autovacuum_vacuum_scale_factor = 0.05);

-- What goes in here comes out again, in the same order: as much each minute as a minute
-- brought. From a fiftieth on the room is given back to what comes next; with the usual
-- fifth table and indexes would be a fifth larger.
ALTER TABLE scanlogin.wechat_push SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE scanlogin.web_session SET (autovacuum_vacuum_scale_factor = 0.02);

-- +goose Down
ALTER TABLE scanlogin.web_session RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE scanlogin.wechat_push RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE scanlogin.scene RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE scanlogin.lease RESET (fillfactor);
ALTER TABLE scanlogin.wechat_codes RESET (fillfactor);
ALTER TABLE scanlogin.wechat_account RESET (fillfactor);
DROP INDEX scanlogin.web_session_expiry;
ALTER TABLE scanlogin.scene DROP COLUMN ready_timeline;
DROP FUNCTION scanlogin.timeline();
