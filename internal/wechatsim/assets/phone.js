// Keeps the phone page fresh and sends its forms without leaving the page. The
// server renders everything; this script fetches the page again and replaces what
// has changed. Without the script the forms work too.
"use strict";

const body = document.body;
const toast = document.getElementById("toast");
const skew = Number(body.dataset.now) - Date.now(); // the codes' clock is the server's
let version = body.dataset.version;
let refreshing = null;

/* ---- what has changed ---- */

const key = (el) => el.dataset.key ?? el.outerHTML;

// patch brings old's children to those of next and leaves equal ones alone, so
// that focus and screen readers are not disturbed.
function patch(old, next) {
  const focus = old.contains(document.activeElement) ? document.activeElement.id : "";
  const incoming = [...next.children];
  incoming.forEach((el, i) => {
    const had = old.children[i];
    if (!had) old.append(el);
    else if (key(had) !== key(el)) had.replaceWith(el);
  });
  while (old.children.length > incoming.length) old.lastElementChild.remove();
  if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
}

async function refresh() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  version = page.body.dataset.version;
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = page.getElementById(old.id);
    if (next) patch(old, next);
  }
  tick();
}

// One refresh at a time, and one more when something changed meanwhile.
function refreshSoon() {
  refreshing = (refreshing ?? Promise.resolve()).then(refresh).catch(() => {});
  return refreshing;
}

async function poll() {
  if (!document.hidden) {
    try {
      const response = await fetch("/sim/version");
      const now = String((await response.json()).version);
      if (toast.dataset.offline) say("");
      if (now !== version) await refreshSoon();
    } catch {
      say(body.dataset.offline, "offline");
    }
  }
  setTimeout(poll, 1000);
}

/* ---- the seconds that are left ---- */

function tick() {
  const now = Date.now() + skew;
  for (const el of document.querySelectorAll("[data-expires]")) {
    const left = Math.ceil((Number(el.dataset.expires) - now) / 1000);
    el.textContent = left > 0 ? body.dataset.seconds.replace("%d", left) : body.dataset.over;
    el.classList.toggle("soon", left > 0 && left <= 20);
    const label = el.closest("label");
    if (left <= 0 && !label.classList.contains("over")) {
      label.classList.add("over");
      refreshSoon();
    }
  }
}

/* ---- doing something ---- */

function say(text, kind = "") {
  toast.textContent = text;
  toast.className = "toast " + kind;
  toast.hidden = text === "";
  if (kind === "offline") toast.dataset.offline = "1";
  else delete toast.dataset.offline;
}

// choose keeps who and what is selected in the address, so that the server renders it.
function choose(change) {
  const form = new FormData(document.getElementById("scan"));
  const query = new URLSearchParams(location.search);
  for (const [field, value] of Object.entries(change)) query.set(field, value);
  if (!query.has("user") && form.get("openid")) query.set("user", form.get("openid"));
  const path = "code" in change ? "/" : location.pathname;
  history.replaceState(null, "", path + "?" + query);
  return refreshSoon();
}

async function submit(form, button) {
  const fields = new URLSearchParams(new FormData(form, button));
  const slow = setTimeout(() => say(body.dataset.busy, "busy"), 600);
  button?.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(form.getAttribute("action"), {
      method: "POST",
      body: fields,
      headers: { Accept: "application/json" },
    });
    const answer = await response.json();
    clearTimeout(slow);
    say(response.ok ? "" : answer.error, "error");
    if (response.ok && "reset" in form.dataset) form.reset();
    if (response.ok && "select" in form.dataset) await choose({ user: answer.openid });
    else await refreshSoon();
    if (form.id === "scan" && matchMedia("(max-width: 860px)").matches) {
      document.querySelector(".phone").scrollIntoView({ behavior: "smooth", block: "start" });
    }
  } catch {
    say(body.dataset.offline, "offline");
  } finally {
    clearTimeout(slow);
    button?.removeAttribute("aria-busy");
  }
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.getAttribute("aria-busy")) return;
  submit(event.target, event.submitter);
});

document.addEventListener("change", (event) => {
  if (event.target.name === "openid") choose({ user: event.target.value });
  if (event.target.name === "code" && event.target.type === "radio") choose({ code: event.target.value });
});

if (matchMedia("(max-width: 860px)").matches) document.getElementById("weather").open = false;
document.documentElement.classList.add("live");
tick();
setInterval(tick, 1000);
poll();
