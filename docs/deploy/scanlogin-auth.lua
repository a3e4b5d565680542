-- Forward-auth for HAProxy, which has none of its own: see haproxy.cfg.

local verify = "http://127.0.0.1:8079/auth/verify?redirect"

local function all(headers, name)
    local values = {}
    for _, value in pairs(headers[name] or {}) do
        values[#values + 1] = value
    end
    return #values > 0 and values or nil
end

core.register_action("scanlogin_auth", { "http-req" }, function(txn)
    local headers = txn.http:req_get_headers()
    local answer = core.httpclient():get {
        url = verify,
        timeout = 3000,
        headers = {
            ["cookie"] = all(headers, "cookie"),
            ["accept"] = all(headers, "accept"),
            ["x-forwarded-for"] = { txn.f:src() },
            ["x-forwarded-method"] = { txn.f:method() },
            ["x-forwarded-proto"] = { txn.f:ssl_fc() == 1 and "https" or "http" },
            ["x-forwarded-host"] = all(headers, "host"),
            ["x-forwarded-uri"] = { txn.f:pathq() },
        },
    }
    if answer.status == 200 then
        txn.http:req_set_header("X-Auth-User", answer.headers["x-auth-user"][0])
        txn.http:req_set_header("X-Auth-User-Id", answer.headers["x-auth-user-id"][0])
        txn:set_var("txn.scanlogin_ok", true)
        return
    end
    if answer.status == 302 or answer.status == 401 then
        local reply = txn:reply { status = answer.status, body = answer.body }
        for _, name in ipairs { "location", "content-type", "cache-control" } do
            for _, value in pairs(answer.headers[name] or {}) do
                reply:add_header(name, value)
            end
        end
        txn:done(reply)
    end
    -- Nobody answered: haproxy.cfg denies what isn't let through.
end)
