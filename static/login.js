// The login page: the panel with the code, and the way in by password beside it.

import { Panel, revealing } from './panel.js';

const $ = (id) => document.getElementById(id);

// The password form sends itself; the script only keeps a double click from sending it twice.
function sendOnce(event) {
  const form = event.currentTarget;
  if (form.getAttribute('aria-busy') === 'true') event.preventDefault();
  form.setAttribute('aria-busy', 'true');
}

// Whoever doesn't want to bind gets the password form back, until the next scan.
function skipBind() {
  $('panel').dataset.skipped = '';
  $('bind-skip').hidden = true;
  $('username').focus();
}

function hear(name) {
  if (name !== 'bind-required' || $('panel').dataset.state === 'bind') return true;
  delete $('panel').dataset.skipped;
  $('bind-skip').hidden = false;
  return true;
}

revealing(document);
$('bind-skip').addEventListener('click', skipBind);
$('login-form').addEventListener('submit', sendOnce);
addEventListener('pageshow', (event) => event.persisted && $('login-form').removeAttribute('aria-busy'));
new Panel(document, location.href, hear).open();
