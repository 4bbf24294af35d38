// What a click inside our HTML means: an element with data-act triggers the event of that name
// with its other data-* values; one with data-open opens the <details data-keep> of that name.
element.addEventListener('click', (event) => {
  const source = event.target.closest('[data-act], [data-open]');
  if (!source || !element.contains(source)) return;
  if (source.dataset.open) {
    const target = [...element.querySelectorAll('details[data-keep]')]
      .find((details) => details.dataset.keep === source.dataset.open);
    if (target) {
      target.open = true;
      target.scrollIntoView({ block: 'nearest' });
    }
    return;
  }
  if (actions.includes(source.dataset.act)) trigger(source.dataset.act, { ...source.dataset });
});
// arrow keys walk along what has role "group"; one stop for the tab key
element.addEventListener('keydown', (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const group = event.target.closest('[data-walk]');
  if (!step || !group) return;
  const stops = [...group.querySelectorAll('[data-act]')];
  const next = stops[stops.indexOf(event.target) + step];
  if (next) {
    next.focus();
    event.preventDefault();
  }
});
// a redraw closes what was opened by hand
const opened = new Set();
element.addEventListener('toggle', (event) => {
  const name = event.target.dataset.keep;
  if (!name) return;
  if (event.target.open) opened.add(name);
  else opened.delete(name);
}, true);
watch('value', () => {
  for (const details of element.querySelectorAll('details[data-keep]')) {
    if (opened.has(details.dataset.keep)) details.open = true;
  }
});
