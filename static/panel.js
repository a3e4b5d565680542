// The panel of a login: it shows the QR code that the event stream brings and
// follows the login to its end, on scanlogin's own page (login.js) and in
// <scan-login> on others (templates/embed.js).
//
// The server knows where a login stands and says so first on every stream, so
// the panel never decides that a login has succeeded or expired: when in doubt it
// connects again and is told.

const LOCK = 'scanlogin-open';
const TURN_MS = 10_000; // how long one tab may keep the others waiting to connect
const FLICKER_MS = 1_500; // planned reconnects are over by then and need no word
const CHECKING_MS = 10_000; // how long after its time the end of a code may take to arrive
const GONE_MS = 700; // another tab that has just completed this login has the cookie by then
const REQUEST_MS = 20_000;

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

// post sends fields as a form, about which no browser asks the server first. The
// answer, in this language, has status 0 where none came.
async function post(url, fields, language) {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { Accept: 'application/json', 'Accept-Language': language },
      body: new URLSearchParams(fields),
      credentials: 'include',
      redirect: 'error',
      signal: AbortSignal.timeout?.(REQUEST_MS),
    });
    const body = await response.json().catch(() => ({}));
    return { status: response.status, body: body ?? {} };
  } catch {
    return { status: 0, body: {} };
  }
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
      const source = new EventSource(this.#url, { withCredentials: true });
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

function clock(seconds) {
  const two = (n) => String(n).padStart(2, '0');
  return `${two(Math.floor(seconds / 60))}:${two(seconds % 60)}`;
}

// Panel is one element whose data-state says what it shows. Its children name
// the states that they belong to in data-for, and what it says is in its data-text-….
export class Panel {
  #root;
  #panel;
  #texts;
  #base;
  #tell;
  #stream;
  #countdown = new Countdown();
  #code = { ticket: '', seconds: 0 }; // shown again after a reconnect, it has fewer seconds left of the same whole
  #premature = 0; // answers "not ready" after a success
  #sending = false;
  #held = null; // what the stream said while a request was under way
  #closed = new AbortController(); // ends every listener outside the panel

  #on = {
    qr: (data) => this.#showCode(data),
    scanned: (data) => this.#showScanned(data),
    success: () => this.#complete(),
    'bind-required': (data) => this.#showBind(data),
    declined: () => this.#decline(),
    expired: () => this.#expire(),
    unavailable: (data) => this.#showUnavailable(data),
  };

  // root is the document or the shadow root that holds the panel's HTML, base the address of
  // scanlogin. tell hears what happens, by name, with what is known of it; where it returns
  // false to "success", the panel doesn't leave the page.
  constructor(root, base, tell = () => true) {
    this.#root = root;
    this.#panel = this.#$('panel');
    this.#texts = this.#panel.dataset;
    this.#base = base;
    this.#tell = tell;
    this.#stream = new LoginStream(
      new URL('/login/events', base),
      Object.fromEntries(Object.keys(this.#on).map((name) => [name, (data) => this.#hear(name, data)])),
      (lost) => this.#showConnection(lost),
    );
    this.#listen();
  }

  // open begins. A page that the browser renders ahead may never be looked at: it takes no code.
  open() {
    const { signal } = this.#closed;
    if (document.prerendering) document.addEventListener('prerenderingchange', () => this.#stream.open(), { once: true, signal });
    else this.#stream.open();
  }

  // close is the end of a panel that nobody sees any more.
  close() {
    this.#closed.abort();
    this.#countdown.stop();
    this.#stream.close();
  }

  #$(id) {
    return this.#root.getElementById(id);
  }

  #listen() {
    const { signal } = this.#closed;
    const phone = /MicroMessenger/i.test(navigator.userAgent) && !/WindowsWechat|MacWechat/i.test(navigator.userAgent);
    this.#toggle('[data-on]', (element) => element.dataset.on === (phone ? 'wechat' : 'other'));
    this.#$('qr').addEventListener('load', () => this.#sharpen());
    this.#$('renew').addEventListener('click', () => this.#renew());
    this.#$('code-form').addEventListener('submit', (event) => this.#sendCode(event));
    this.#$('bind-form').addEventListener('submit', (event) => this.#sendBind(event));
    this.#$('bind-mode').addEventListener('change', (event) => this.#setMode(event.target.value));
    document.addEventListener('visibilitychange', () => document.hidden || this.#stream.wake(), { signal });
    addEventListener('online', () => this.#stream.wake(), { signal });
    addEventListener('pageshow', (event) => event.persisted && this.#comeBack(), { signal });
    addEventListener('pagehide', () => this.#stream.suspend(), { signal });
  }

  // A page that comes back from the browser's back/forward cache may be one
  // that had already left for the user page; it starts over.
  #comeBack() {
    if (this.#panel.dataset.state !== 'success') return this.#stream.wake();
    this.#show('connecting');
    this.#stream.open();
  }

  // An answer and an event of the same moment may arrive in either order: while a request is
  // under way its answer comes first.
  #hear(name, data) {
    if (!this.#sending) return this.#on[name](data);
    if (name === 'success' || name === 'expired' || name === 'declined') this.#stream.close();
    this.#held = [name, data];
  }

  #toggle(selector, visible) {
    for (const element of this.#panel.querySelectorAll(selector)) element.hidden = !visible(element);
  }

  // say reads a text to those who can't see the panel change.
  #say(text) {
    this.#$('status').textContent = text;
  }

  #show(state) {
    const panel = this.#panel;
    const before = panel.dataset.state;
    if (before === state) return;
    const hadFocus = panel.contains(this.#root.activeElement);
    this.#countdown.stop();
    panel.dataset.state = state;
    this.#toggle('[data-for]', (element) => element.dataset.for.split(' ').includes(state));
    const spoken = [...panel.querySelectorAll('[data-say]')].find((element) => element.checkVisibility?.() ?? element.offsetParent);
    this.#say(spoken?.textContent ?? '');
    this.#$('qr').setAttribute('aria-hidden', state !== 'waiting');
    if (before === 'bind') this.#$('bind-password').value = '';
    if (['expired', 'declined', 'refused'].includes(state) && hadFocus) this.#$('renew').focus();
  }

  #setRing(left, whole) {
    this.#$('ring').style.setProperty('--left', whole > 0 ? (100 * left) / whole : 0);
  }

  #showCode({ image, ticket, expires_in }) {
    const seconds = Number(expires_in);
    if (!String(image).startsWith('data:image/') || Number.isNaN(seconds)) return;
    if (ticket !== this.#code.ticket) this.#code = { ticket, seconds };
    const qr = this.#$('qr');
    if (qr.src !== image) qr.src = image;
    this.#$('save').href = image;
    this.#show('waiting');
    this.#$('left-label').hidden = false;
    this.#countdown.start(seconds, (left) => this.#showTimeLeft(left), () => this.#awaitEnd());
    this.#tell('qr', { expires_in: seconds });
  }

  #showTimeLeft(left) {
    this.#$('left').textContent = clock(left);
    this.#setRing(left, this.#code.seconds);
  }

  // The end is the server's to tell. A connection that died unnoticed would
  // never bring it, so after a while the page asks again.
  #awaitEnd() {
    this.#$('left-label').hidden = true;
    this.#$('left').textContent = this.#texts.textChecking;
    const asked = this.#code.ticket;
    setTimeout(() => {
      const checking = this.#panel.dataset.state === 'waiting' && this.#$('left-label').hidden;
      if (checking && asked === this.#code.ticket && !document.hidden && !this.#closed.signal.aborted) this.#stream.open();
    }, CHECKING_MS);
  }

  // A big picture shrinks smoothly; a small one grows in whole squares.
  #sharpen() {
    const qr = this.#$('qr');
    qr.classList.toggle('enlarged', qr.naturalWidth <= qr.clientWidth * devicePixelRatio);
  }

  // With a code that can still be scanned, or a form half filled in, the stream
  // alone is unavailable and the page stays as it is.
  #showUnavailable({ reason, retry_in }) {
    const whole = Math.max(1, Number(retry_in) || 5);
    const state = this.#panel.dataset.state;
    if (state === 'bind' || state.startsWith('scanned') || (state === 'waiting' && !this.#$('left-label').hidden)) {
      this.#showConnection(true);
      return this.#stream.openIn(whole * 1_000);
    }
    this.#stream.close();
    const known = this.#panel.querySelector(`[data-reason="${CSS.escape(reason)}"]`) ? reason : 'wechat_unavailable';
    this.#toggle('[data-reason]', (element) => element.dataset.reason === known);
    this.#show('unavailable');
    const tick = (left) => {
      this.#$('retry').textContent = left;
      this.#setRing(left, whole);
    };
    this.#countdown.start(whole, tick, () => this.#tryAgain());
    this.#tell('error', { reason, retry_in: whole });
  }

  // tryAgain leaves a forgotten tab alone until somebody looks at it.
  #tryAgain() {
    if (document.hidden) {
      document.addEventListener('visibilitychange', () => this.#tryAgain(), { once: true, signal: this.#closed.signal });
    } else if (this.#panel.dataset.state === 'unavailable') this.#stream.openIn(Math.random() * 1_000);
  }

  #expire() {
    this.#stream.close();
    this.#show('expired');
    this.#tell('expired', {});
  }

  #decline() {
    this.#stream.close();
    this.#show('declined');
    this.#tell('declined', {});
  }

  #renew() {
    const hadFocus = this.#root.activeElement === this.#$('renew');
    this.#show('connecting');
    if (hadFocus) this.#panel.focus();
    this.#stream.open();
  }

  #showConnection(lost) {
    const word = lost ? (navigator.onLine ? this.#texts.textLost : this.#texts.textOffline) : '';
    const line = this.#$('connection');
    if (line.textContent !== word) {
      this.#say(word);
      if (lost) this.#tell('error', { reason: 'connection' });
    }
    line.textContent = word;
    line.hidden = !lost;
    this.#panel.dataset.connection = lost ? 'lost' : 'ok';
  }

  // The end of a login that was scanned by somebody who is known.
  async #complete() {
    this.#stream.close();
    this.#show('success');
    let gone = false;
    for (let failures = 0; this.#panel.dataset.state === 'success' && !this.#closed.signal.aborted; ) {
      const { status, body } = await this.#post('/login/complete', this.#withNext({}));
      if (status === 200) return this.#leave(body.redirect);
      if (status === 409) return this.#stream.openIn(this.#premature++ ? backoff(this.#premature) : 0);
      if (status === 403 && body.message) return this.#refuseAccount(body.message);
      if (status === 410 && gone) return this.#expire();
      if (status === 410) {
        gone = true;
        await pause(GONE_MS);
        continue;
      }
      if (failures === 1) this.#showConnection(true);
      await pause(backoff(failures++));
    }
  }

  // leave goes to the address that the server chose, unless the page does something else.
  #leave(address) {
    const home = new URL('/user', this.#base);
    const target = new URL(address || home, this.#base);
    const redirect = target.protocol === 'https:' || target.protocol === 'http:' ? target.href : home.href;
    if (this.#tell('success', { redirect })) location.assign(redirect);
  }

  // refuseAccount is for a login that was right, by somebody who may not (any more).
  #refuseAccount(why) {
    this.#$('refused').textContent = why;
    this.#show('refused');
  }

  #withNext(fields) {
    return this.#texts.next ? { ...fields, next: this.#texts.next } : fields;
  }

  // post never comes back where nobody is left to hear the answer.
  async #post(path, fields) {
    const answer = await post(new URL(path, this.#base), fields, this.#panel.lang);
    return this.#closed.signal.aborted ? new Promise(() => {}) : answer;
  }

  // What a form sends. Resolves to the answer, and what the stream said meanwhile:
  // [name, data], or [].
  async #send(form, fields) {
    this.#setSending(form, true);
    const { status, body } = await this.#post(form.getAttribute('action'), fields);
    this.#setSending(form, false);
    const missed = this.#held ?? [];
    this.#held = null;
    return { status, body, missed };
  }

  #setSending(form, on) {
    this.#sending = on;
    form.setAttribute('aria-busy', on);
    form.querySelector('.wide').disabled = on;
  }

  #showError(id, text) {
    this.#$(id).textContent = text;
    this.#$(id).hidden = !text;
  }

  // A scan that has to be confirmed: by a number that the person answers with, or by a code
  // that the person was sent.

  #showScanned({ confirm, number }) {
    this.#tell('scanned', { confirm });
    if (confirm !== 'code') {
      for (const id of ['number', 'number-said']) this.#$(id).textContent = number;
      return this.#show('scanned-reply');
    }
    if (this.#panel.dataset.state === 'scanned-code') return;
    this.#$('code').value = '';
    this.#showCodeError('');
    this.#show('scanned-code');
    this.#$('code').focus();
  }

  #showCodeError(text) {
    this.#showError('code-error', text);
    this.#$('code').setAttribute('aria-invalid', Boolean(text));
    if (text) this.#$('code').select();
  }

  async #sendCode(event) {
    event.preventDefault();
    if (this.#sending) return;
    const typed = this.#$('code').value.normalize('NFKC').replace(/\s/g, '');
    if (!/^\d{6}$/.test(typed)) {
      this.#showCodeError(this.#texts.textFormat);
      return this.#$('code').focus();
    }
    this.#showCodeError('');
    const { status, body, missed } = await this.#send(this.#$('code-form'), { code: typed });
    if (missed.length > 0 && missed[0] !== 'scanned') return this.#on[missed[0]](missed[1]);
    if (status === 200) return this.#stream.open(); // which says what comes next, if it didn't
    this.#refuseCode(status, body);
  }

  #refuseCode(status, body) {
    if (status === 410) return this.#expire();
    if (status === 409) return this.#stream.open();
    if (status === 403 && 'tries_left' in body) {
      if (body.tries_left === 0) return this.#decline();
      this.#showCodeError(`${body.message} ${this.#texts.textTries}${body.tries_left}`);
    } else if (status === 0) this.#showCodeError(this.#texts.textNetwork);
    else this.#showCodeError(status === 429 ? body.message || this.#texts.textBusy : this.#texts.textServer);
    this.#$('code').focus();
  }

  // Binding, for a login that was scanned by somebody new.

  #showBind({ signup }) {
    this.#tell('bind-required', { signup: Boolean(signup) });
    if (this.#panel.dataset.state === 'bind') return;
    this.#$('bind-mode').hidden = !signup;
    if (!signup) this.#setMode('bind');
    this.#showBindError('');
    this.#show('bind');
    this.#$('bind-username').focus();
  }

  #setMode(mode) {
    const form = this.#$('bind-form');
    for (const choice of form.elements.mode) choice.checked = choice.value === mode;
    for (const element of form.querySelectorAll('[data-mode]')) element.hidden = element.dataset.mode !== mode;
    this.#$('bind-password').autocomplete = mode === 'signup' ? 'new-password' : 'current-password';
    form.setAttribute('action', `/user/${mode}`);
    this.#showBindError('');
  }

  #showBindError(text, invalid = false) {
    this.#showError('bind-error', text);
    for (const id of ['bind-username', 'bind-password']) this.#$(id).setAttribute('aria-invalid', invalid);
  }

  async #sendBind(event) {
    event.preventDefault();
    if (this.#sending) return;
    this.#showBindError('');
    const fields = { username: this.#$('bind-username').value, password: this.#$('bind-password').value };
    const { status, body, missed } = await this.#send(this.#$('bind-form'), this.#withNext(fields));
    if (status === 200) return this.#bound(body);
    if (missed.length > 0 && missed[0] !== 'bind-required') return this.#on[missed[0]](missed[1]);
    this.#refuse(status, body);
  }

  #bound({ redirect }) {
    this.#stream.close();
    this.#show('success');
    this.#leave(redirect);
  }

  #refuse(status, body) {
    const reason = body.err || body.message;
    if (status === 410) return this.#expire();
    if (status === 409 && (body.error === 'not_ready' || !reason)) return this.#stream.open();
    if (status === 0) this.#showBindError(this.#texts.textNetwork);
    else if (status === 429) this.#showBindError(reason || this.#texts.textBusy);
    else if (status >= 500) this.#showBindError(this.#texts.textServer);
    else this.#showBindError(reason || this.#texts.textServer, true);
    this.#$('bind-password').focus();
    this.#$('bind-password').select();
  }
}

// revealing lets the password fields below root be read by who types in them.
export function revealing(root) {
  for (const button of root.querySelectorAll('.reveal')) {
    const field = root.getElementById(button.getAttribute('aria-controls'));
    button.hidden = false;
    button.addEventListener('click', () => {
      const shown = button.getAttribute('aria-pressed') !== 'true';
      button.setAttribute('aria-pressed', shown);
      field.type = shown ? 'text' : 'password';
    });
  }
}
