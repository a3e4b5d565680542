// The login page. It shows the QR code that the event stream brings and follows
// the login to its end.
//
// The server knows where a login stands and says so first on every stream, so
// the page never decides that a login has succeeded or expired: when in doubt it
// connects again and is told.

const LOCK = 'scanlogin-open';
const TURN_MS = 10_000; // how long one tab may keep the others waiting to connect
const FLICKER_MS = 1_500; // planned reconnects are over by then and need no word
const CHECKING_MS = 10_000; // how long after its time the end of a code may take to arrive
const GONE_MS = 700; // another tab that has just completed this login has the cookie by then
const REQUEST_MS = 20_000;

const $ = (id) => document.getElementById(id);
const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

// backoff is the wait in ms before try n, counted from 0: 1 s to 12 s, spread
// so that the pages that one server left don't all come back together. No more:
// after an outage somebody with a phone in the hand waits for this.
function backoff(n) {
  return Math.min(8_000, 1_000 * 2 ** n) * (1 + Math.random() / 2);
}

// inTurn runs work while no other tab of this browser does. Two tabs restored
// at once would start a login each; one after the other, the second finds the
// first one's cookie and shares its code.
async function inTurn(work) {
  if (!navigator.locks) return work();
  try {
    return await navigator.locks.request(LOCK, { signal: AbortSignal.timeout(TURN_MS) }, work);
  } catch {
    return work(); // waited long enough, or locks are refused here
  }
}

// post sends fields as JSON. The answer has status 0 where none came.
async function post(url, fields) {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Accept: 'application/json' },
      body: JSON.stringify(fields),
      credentials: 'same-origin',
      redirect: 'error',
      signal: AbortSignal.timeout?.(REQUEST_MS),
    });
    const body = await response.json().catch(() => ({}));
    return { status: response.status, body: body ?? {} };
  } catch {
    return { status: 0, body: {} };
  }
}

// go leaves for the address that the server chose.
function go(redirect) {
  const target = new URL(redirect || '/user', location.href);
  location.assign(target.protocol === 'https:' || target.protocol === 'http:' ? target.href : '/user');
}

// Countdown calls tick(seconds left) at once and then every second, and done
// at 0. It counts from the clock and not from its own ticks, which a browser
// slows down in a hidden tab.
class Countdown {
  #timer = 0;

  start(seconds, tick, done) {
    this.stop();
    const end = performance.now() + seconds * 1_000;
    const step = () => {
      const rest = end - performance.now();
      const left = Math.max(0, Math.ceil(rest / 1_000));
      tick(left);
      if (left > 0) this.#timer = setTimeout(step, rest - (left - 1) * 1_000);
      else done();
    };
    step();
  }

  stop() {
    clearTimeout(this.#timer);
  }
}

// LoginStream keeps one EventSource open for as long as it is wanted. The
// browser reconnects by itself after a lost connection, but gives up for good
// after any answer but 200; then the stream opens a new one, with backoff.
class LoginStream {
  #url;
  #events;
  #lost;
  #source = null;
  #endTurn = () => {};
  #wanted = false;
  #away = false; // wanted, and neither open nor on its first way there
  #opening = 0; // counts calls of open, so that a superseded one can tell
  #failures = 0;
  #retryTimer = 0;
  #lostTimer = 0;

  // events maps names of events to functions of their data. lost(true) is
  // called when the connection has been away for a while, lost(false) when it
  // is back or no longer wanted.
  constructor(url, events, lost) {
    this.#url = url;
    this.#events = events;
    this.#lost = lost;
  }

  // open starts afresh, which also forgets the Last-Event-ID.
  open() {
    this.#drop();
    this.#wanted = true;
    this.#away = false;
    const opening = this.#opening;
    inTurn(() => (opening === this.#opening ? this.#connect() : undefined));
  }

  openIn(ms) {
    this.#drop();
    this.#wanted = true;
    this.#away = true;
    this.#retryTimer = setTimeout(() => this.open(), ms);
  }

  close() {
    this.#wanted = false;
    this.#failures = 0;
    this.#drop();
    this.#calm();
  }

  // suspend lets go of the connection; wake takes it up again.
  suspend() {
    this.#drop();
    this.#away = true;
  }

  // wake connects now instead of when a timer fires.
  wake() {
    if (this.#wanted && this.#away) this.open();
  }

  #drop() {
    this.#opening++;
    clearTimeout(this.#retryTimer);
    this.#source?.close();
    this.#source = null;
    this.#endTurn();
  }

  // connect's promise ends this tab's turn: with the first event the cookie is
  // there for the other tabs, with an error there is nothing to wait for.
  #connect() {
    return new Promise((endTurn) => {
      this.#endTurn = endTurn;
      setTimeout(endTurn, TURN_MS);
      const source = new EventSource(this.#url);
      this.#source = source;
      source.addEventListener('open', () => this.#calm());
      source.addEventListener('error', () => this.#failed(source));
      for (const name of Object.keys(this.#events)) {
        source.addEventListener(name, (event) => this.#received(source, name, event.data));
      }
    });
  }

  #received(source, name, text) {
    if (source !== this.#source) return;
    this.#endTurn();
    this.#failures = 0;
    this.#calm();
    let data;
    try {
      data = JSON.parse(text);
    } catch {
      return;
    }
    this.#events[name](data ?? {});
  }

  #failed(source) {
    if (source !== this.#source) return;
    this.#endTurn();
    this.#away = true;
    if (!this.#lostTimer) this.#lostTimer = setTimeout(this.#lost, FLICKER_MS, true);
    if (source.readyState === EventSource.CLOSED) this.openIn(backoff(this.#failures++));
  }

  #calm() {
    this.#away = false;
    clearTimeout(this.#lostTimer);
    this.#lostTimer = 0;
    this.#lost(false);
  }
}

// The panel: one element whose data-state says what it shows. Its children name
// the states that they belong to in data-for.

const panel = $('panel');
const texts = panel.dataset;
const countdown = new Countdown();

function toggle(selector, visible) {
  for (const element of panel.querySelectorAll(selector)) element.hidden = !visible(element);
}

// say reads a text to those who can't see the panel change.
function say(text) {
  $('status').textContent = text;
}

function show(state) {
  const before = panel.dataset.state;
  if (before === state) return;
  const hadFocus = panel.contains(document.activeElement);
  countdown.stop();
  panel.dataset.state = state;
  toggle('[data-for]', (element) => element.dataset.for.split(' ').includes(state));
  const spoken = [...panel.querySelectorAll('[data-say]')].find((element) => element.checkVisibility?.() ?? element.offsetParent);
  say(spoken?.textContent ?? '');
  $('qr').setAttribute('aria-hidden', state !== 'waiting');
  if (before === 'bind') $('bind-password').value = '';
  if ((state === 'expired' || state === 'declined') && hadFocus) $('renew').focus();
}

function clock(seconds) {
  const two = (n) => String(n).padStart(2, '0');
  return `${two(Math.floor(seconds / 60))}:${two(seconds % 60)}`;
}

function setRing(left, whole) {
  $('ring').style.setProperty('--left', whole > 0 ? (100 * left) / whole : 0);
}

// A code that is shown again after a reconnect has fewer seconds left of the same whole.
const code = { ticket: '', seconds: 0 };

function showCode({ image, ticket, expires_in }) {
  const seconds = Number(expires_in);
  if (!String(image).startsWith('data:image/') || Number.isNaN(seconds)) return;
  if (ticket !== code.ticket) Object.assign(code, { ticket, seconds });
  const qr = $('qr');
  if (qr.src !== image) qr.src = image;
  $('save').href = image;
  show('waiting');
  $('left-label').hidden = false;
  countdown.start(seconds, showTimeLeft, awaitEnd);
}

function showTimeLeft(left) {
  $('left').textContent = clock(left);
  setRing(left, code.seconds);
}

// The end is the server's to tell. A connection that died unnoticed would
// never bring it, so after a while the page asks again.
function awaitEnd() {
  $('left-label').hidden = true;
  $('left').textContent = texts.textChecking;
  const asked = code.ticket;
  setTimeout(() => {
    const stillChecking = panel.dataset.state === 'waiting' && $('left-label').hidden && asked === code.ticket;
    if (stillChecking && !document.hidden) stream.open();
  }, CHECKING_MS);
}

// A big picture shrinks smoothly; a small one grows in whole squares.
function sharpen() {
  const qr = $('qr');
  qr.classList.toggle('enlarged', qr.naturalWidth <= qr.clientWidth * devicePixelRatio);
}

// With a code that can still be scanned, or a form half filled in, the stream
// alone is unavailable and the page stays as it is.
function showUnavailable({ reason, retry_in }) {
  const whole = Math.max(1, Number(retry_in) || 5);
  const state = panel.dataset.state;
  if (state === 'bind' || state.startsWith('scanned') || (state === 'waiting' && !$('left-label').hidden)) {
    showConnection(true);
    return stream.openIn(whole * 1_000);
  }
  stream.close();
  const known = panel.querySelector(`[data-reason="${CSS.escape(reason)}"]`) ? reason : 'wechat_unavailable';
  toggle('[data-reason]', (element) => element.dataset.reason === known);
  show('unavailable');
  const tick = (left) => {
    $('retry').textContent = left;
    setRing(left, whole);
  };
  countdown.start(whole, tick, tryAgain);
}

// tryAgain leaves a forgotten tab alone until somebody looks at it.
function tryAgain() {
  if (document.hidden) document.addEventListener('visibilitychange', tryAgain, { once: true });
  else if (panel.dataset.state === 'unavailable') stream.openIn(Math.random() * 1_000);
}

function expire() {
  stream.close();
  show('expired');
}

function decline() {
  stream.close();
  show('declined');
}

function renew() {
  const hadFocus = document.activeElement === $('renew');
  show('connecting');
  if (hadFocus) panel.focus();
  stream.open();
}

function showConnection(lost) {
  const word = lost ? (navigator.onLine ? texts.textLost : texts.textOffline) : '';
  const line = $('connection');
  if (line.textContent !== word) say(word);
  line.textContent = word;
  line.hidden = !lost;
  panel.dataset.connection = lost ? 'lost' : 'ok';
}

// The end of a login that was scanned by somebody who is known.

let premature = 0; // answers "not ready" after a success

async function complete() {
  stream.close();
  show('success');
  let gone = false;
  for (let failures = 0; panel.dataset.state === 'success'; ) {
    const { status, body } = await post('/login/complete', withNext({}));
    if (status === 200) return go(body.redirect);
    if (status === 409) return stream.openIn(premature++ ? backoff(premature) : 0);
    if (status === 410 && gone) return expire();
    if (status === 410) {
      gone = true;
      await pause(GONE_MS);
      continue;
    }
    if (failures === 1) showConnection(true);
    await pause(backoff(failures++));
  }
}

function withNext(fields) {
  return texts.next ? { ...fields, next: texts.next } : fields;
}

// What a form sends. An answer and an event of the same moment may arrive in either order:
// while a request is under way its answer comes first.

let sending = false;
let held = null; // what the stream said while a request was under way

function setSending(form, on) {
  sending = on;
  form.setAttribute('aria-busy', on);
  form.querySelector('.wide').disabled = on;
}

// send resolves to the answer, and what the stream said meanwhile: [name, data], or [].
async function send(form, fields) {
  setSending(form, true);
  const { status, body } = await post(form.action, fields);
  setSending(form, false);
  const missed = held ?? [];
  held = null;
  return { status, body, missed };
}

function afterAnswer(name, handle) {
  return (data) => {
    if (!sending) return handle(data);
    if (name === 'success' || name === 'expired' || name === 'declined') stream.close();
    held = [name, data];
  };
}

function showError(id, text) {
  $(id).textContent = text;
  $(id).hidden = !text;
}

// A scan that has to be confirmed: by a number that the person answers with, or by a code
// that the person was sent.

function showScanned({ confirm, number }) {
  if (confirm !== 'code') {
    for (const id of ['number', 'number-said']) $(id).textContent = number;
    return show('scanned-reply');
  }
  if (panel.dataset.state === 'scanned-code') return;
  $('code').value = '';
  showCodeError('');
  show('scanned-code');
  $('code').focus();
}

function showCodeError(text) {
  showError('code-error', text);
  $('code').setAttribute('aria-invalid', Boolean(text));
  if (text) $('code').select();
}

async function sendCode(event) {
  event.preventDefault();
  if (sending) return;
  const typed = $('code').value.normalize('NFKC').replace(/\s/g, '');
  if (!/^\d{6}$/.test(typed)) {
    showCodeError(texts.textFormat);
    return $('code').focus();
  }
  showCodeError('');
  const { status, body, missed } = await send($('code-form'), { code: typed });
  if (missed.length > 0 && missed[0] !== 'scanned') return on[missed[0]](missed[1]);
  if (status === 200) return stream.open(); // which says what comes next, if it didn't
  refuseCode(status, body);
}

function refuseCode(status, body) {
  if (status === 410) return expire();
  if (status === 409) return stream.open();
  if (status === 403 && 'tries_left' in body) {
    if (body.tries_left === 0) return decline();
    showCodeError(`${body.message} ${texts.textTries}${body.tries_left}`);
  } else if (status === 0) showCodeError(texts.textNetwork);
  else showCodeError(status === 429 ? body.message || texts.textBusy : texts.textServer);
  $('code').focus();
}

// Binding, for a login that was scanned by somebody new.

function showBind({ signup }) {
  if (panel.dataset.state === 'bind') return;
  delete panel.dataset.skipped;
  $('bind-skip').hidden = false;
  $('bind-mode').hidden = !signup;
  if (!signup) setMode('bind');
  showBindError('');
  show('bind');
  $('bind-username').focus();
}

function setMode(mode) {
  for (const choice of $('bind-form').elements.mode) choice.checked = choice.value === mode;
  for (const element of $('bind-form').querySelectorAll('[data-mode]')) element.hidden = element.dataset.mode !== mode;
  $('bind-password').autocomplete = mode === 'signup' ? 'new-password' : 'current-password';
  $('bind-form').action = `/user/${mode}`;
  showBindError('');
}

function showBindError(text, invalid = false) {
  showError('bind-error', text);
  for (const id of ['bind-username', 'bind-password']) $(id).setAttribute('aria-invalid', invalid);
}

async function sendBind(event) {
  event.preventDefault();
  if (sending) return;
  showBindError('');
  const fields = { username: $('bind-username').value, password: $('bind-password').value };
  const { status, body, missed } = await send($('bind-form'), withNext(fields));
  if (status === 200) return bound(body);
  if (missed.length > 0 && missed[0] !== 'bind-required') return on[missed[0]](missed[1]);
  refuse(status, body);
}

function bound({ redirect }) {
  stream.close();
  show('success');
  go(redirect);
}

function refuse(status, body) {
  const reason = body.err || body.message;
  if (status === 410) return expire();
  if (status === 409 && (body.error === 'not_ready' || !reason)) return stream.open();
  if (status === 0) showBindError(texts.textNetwork);
  else if (status === 429) showBindError(reason || texts.textBusy);
  else if (status >= 500) showBindError(texts.textServer);
  else showBindError(reason || texts.textServer, true);
  $('bind-password').focus();
  $('bind-password').select();
}

const on = {
  qr: showCode,
  scanned: showScanned,
  success: complete,
  'bind-required': showBind,
  declined: decline,
  expired: expire,
  unavailable: showUnavailable,
};

const stream = new LoginStream(
  '/login/events',
  Object.fromEntries(Object.entries(on).map(([name, handle]) => [name, afterAnswer(name, handle)])),
  showConnection,
);

// The password form sends itself; the script only keeps a double click from sending it twice.

function sendOnce(event) {
  const form = event.currentTarget;
  if (form.getAttribute('aria-busy') === 'true') event.preventDefault();
  form.setAttribute('aria-busy', 'true');
}

function reveal(event) {
  const button = event.currentTarget;
  const shown = button.getAttribute('aria-pressed') !== 'true';
  button.setAttribute('aria-pressed', shown);
  $(button.getAttribute('aria-controls')).type = shown ? 'text' : 'password';
}

function skipBind() {
  panel.dataset.skipped = '';
  $('bind-skip').hidden = true;
  $('username').focus();
}

// A page that comes back from the browser's back/forward cache may be one
// that had already left for the user page; it starts over.
function comeBack(event) {
  if (!event.persisted) return;
  $('login-form').removeAttribute('aria-busy');
  if (panel.dataset.state !== 'success') return stream.wake();
  show('connecting');
  stream.open();
}

function begin() {
  const phone = /MicroMessenger/i.test(navigator.userAgent) && !/WindowsWechat|MacWechat/i.test(navigator.userAgent);
  toggle('[data-on]', (element) => element.dataset.on === (phone ? 'wechat' : 'other'));
  for (const button of document.querySelectorAll('.reveal')) {
    button.hidden = false;
    button.addEventListener('click', reveal);
  }
  $('qr').addEventListener('load', sharpen);
  $('renew').addEventListener('click', renew);
  $('code-form').addEventListener('submit', sendCode);
  $('bind-form').addEventListener('submit', sendBind);
  $('bind-form').addEventListener('change', (event) => event.target.name === 'mode' && setMode(event.target.value));
  $('bind-skip').addEventListener('click', skipBind);
  $('login-form').addEventListener('submit', sendOnce);
  document.addEventListener('visibilitychange', () => document.hidden || stream.wake());
  addEventListener('online', () => stream.wake());
  addEventListener('pageshow', comeBack);
  addEventListener('pagehide', () => stream.suspend());
  stream.open();
}

// A page that the browser renders ahead may never be looked at: it takes no code.
if (document.prerendering) document.addEventListener('prerenderingchange', begin, { once: true });
else begin();
