// The user pages work without this script; with it, times are shown in the
// reader's own time zone and Escape folds an open question away.

const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: 'long', timeStyle: 'short' });

for (const time of document.querySelectorAll('time')) {
  time.textContent = format.format(new Date(time.dateTime));
}

for (const question of document.querySelectorAll('details.confirm')) {
  question.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    question.open = false;
    question.querySelector('summary').focus();
  });
}
