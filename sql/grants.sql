-- What the service's role may do, all of it: whatever else it was given on what is ours is
-- taken away. It owns nothing, so it changes no table and no function. Run after each
-- migration; scanlogin_service stands for the role.
--
-- Two who grant at once would get in each other's way.
SELECT pg_advisory_xact_lock(hashtextextended('scanlogin.grants', 0));

REVOKE ALL ON SCHEMA scanlogin FROM scanlogin_service;
REVOKE ALL ON ALL TABLES IN SCHEMA scanlogin FROM scanlogin_service;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA scanlogin FROM scanlogin_service;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA scanlogin FROM scanlogin_service;

GRANT USAGE ON SCHEMA scanlogin TO scanlogin_service;
GRANT SELECT ON scanlogin.goose_db_version TO scanlogin_service;

-- An account stays, and so do its name, its number, and the team's own.
GRANT SELECT, INSERT (name, password, external_id, external_name, external_version),
    UPDATE (password, password_changes, external_name, external_version) ON scanlogin.account TO scanlogin_service;
-- To update what is there to what it is already is how an INSERT locks it.
GRANT SELECT, INSERT, UPDATE (account_id), DELETE ON scanlogin.wechat_identity TO scanlogin_service;
GRANT SELECT, INSERT, UPDATE (token_hash, seen_at), DELETE ON scanlogin.web_session TO scanlogin_service;

-- Scenes come and go with resize_pool alone.
GRANT SELECT, UPDATE ON scanlogin.scene TO scanlogin_service;
GRANT SELECT, USAGE ON SEQUENCE scanlogin.scene_ring TO scanlogin_service;
GRANT SELECT, INSERT, UPDATE (wrong), DELETE ON scanlogin.confirmation TO scanlogin_service;

GRANT SELECT, INSERT (appid), UPDATE ON scanlogin.wechat_account TO scanlogin_service;
GRANT SELECT, INSERT, UPDATE (made), DELETE ON scanlogin.wechat_codes TO scanlogin_service;
-- Nobody changes a reply: who removes it locks it first, which takes the right to update something.
GRANT SELECT, INSERT, UPDATE (created_at), DELETE ON scanlogin.wechat_push TO scanlogin_service;
GRANT SELECT, INSERT, UPDATE (holder, until), DELETE ON scanlogin.lease TO scanlogin_service;
GRANT SELECT, INSERT, UPDATE (tat, tries), DELETE ON scanlogin.rate_limit TO scanlogin_service;

GRANT SELECT, INSERT (account_id, kind, browser, place, openids), UPDATE (openids, telling_until), DELETE ON scanlogin.notice TO scanlogin_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON scanlogin.instance TO scanlogin_service;

-- Rows are added, with a time and a number that the database gives. They are neither read nor
-- changed; keep_audit removes those that are old enough.
GRANT INSERT (kind, detail, login, account_id, account, person, address, browser, place, instance, times)
    ON scanlogin.audit TO scanlogin_service;

GRANT EXECUTE ON FUNCTION scanlogin.resize_pool(integer), scanlogin.ring_position(), scanlogin.timeline(),
    scanlogin.take_limits(bytea[], integer[], integer[], integer[], float8[], boolean[]),
    scanlogin.person(text, text), scanlogin.keep_audit(interval) TO scanlogin_service;
