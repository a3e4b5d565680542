// The operator's page: its body comes anew every few seconds. EventSource reconnects by
// itself; meanwhile the page says how old it is.

const body = document.querySelector('main');
let told = Date.now();

function stale() {
  const age = Math.round((Date.now() - told) / 1000);
  body.toggleAttribute('data-stale', age > 10);
  body.dataset.age = `${age} s ago`;
}

const source = new EventSource('/status/events');
source.addEventListener('status', (event) => {
  body.innerHTML = JSON.parse(event.data); // rendered by html/template, escaped there
  told = Date.now();
  stale();
});
setInterval(stale, 1000);
