// <scan-login>: the panel of scanlogin's login page, on a page of another origin.

import { Panel, revealing } from '{{.Origin}}{{asset "panel.js"}}';

const ORIGIN = '{{.Origin}}';
const DIRECT = {{.Direct}}; // cookies of ORIGIN get there and back from this page
const STYLE = {{json .Style}};
const PANELS = {{json .Panels}}; // HTML by language

const DARK = '(prefers-color-scheme: dark)';

// Where a page insists on Trusted Types, it has to allow this name.
const trusted = globalThis.trustedTypes?.createPolicy('scan-login', { createHTML: (html) => html }) ?? { createHTML: (html) => html };

class ScanLogin extends HTMLElement {
  static observedAttributes = ['theme'];

  #root = this.attachShadow({ mode: 'open' });
  #dark; // the rule with the dark colours
  #panel = null;

  constructor() {
    super();
    const style = new CSSStyleSheet();
    style.replaceSync(STYLE);
    this.#root.adoptedStyleSheets = [style];
    this.#dark = [...style.cssRules].find((rule) => rule.media?.mediaText === DARK);
    this.attributeChangedCallback();
  }

  // It is dark where the page says so, which may know no dark itself.
  attributeChangedCallback() {
    this.#dark.media.mediaText = { dark: 'all', auto: DARK }[this.getAttribute('theme')] ?? 'not all';
  }

  connectedCallback() {
    this.#root.innerHTML = trusted.createHTML(PANELS[this.#language()]);
    for (const link of this.#root.querySelectorAll('[data-login]')) link.href = `${ORIGIN}/login?next=${encodeURIComponent(this.#next())}`;
    if (!DIRECT) return;
    revealing(this.#root);
    this.#root.getElementById('panel').dataset.next = this.#next();
    this.#panel = new Panel(this.#root, ORIGIN, (name, detail) => this.#tell(name, detail));
    this.#panel.open();
  }

  disconnectedCallback() {
    this.#panel?.close();
    this.#panel = null;
  }

  #tell(name, detail) {
    return this.dispatchEvent(new CustomEvent(`scan-login:${name}`, { detail, bubbles: true, composed: true, cancelable: name === 'success' }));
  }

  // next is where a login leads: to this page again, unless it names another.
  #next() {
    return new URL(this.getAttribute('next') ?? '', location.href).href;
  }

  #language() {
    const wanted = this.closest('[lang]')?.lang || navigator.language;
    return /^zh\b/i.test(wanted) ? 'zh-CN' : 'en';
  }
}

if (!customElements.get('scan-login')) customElements.define('scan-login', ScanLogin);
