// The reader's own prediction before a result is shown, as madlab/lessons/predictions.py has it in JupyterLab: what came
// out lies closed below the box until there is a number in it; then both are compared. The number stays in this browser.
(() => {
  'use strict';
  const { element, store } = window.madlab;
  const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
  const THOUSANDS = /^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$/;

  // A unit as it stands behind 1: "1 point".
  const one = unit => unit.replace(/s$/, '');

  // The number that was typed: null while there is none, NaN if it is something else.
  function read(typed, unit) {
    const text = typed.trim();
    if (!text) return null;
    const written = [unit, one(unit), ...(unit === 'times' ? ['x', '×'] : [])].find(form => form && text.endsWith(form)) || '';
    const bare = text.slice(0, text.length - written.length).trim().replace('−', '-');
    const number = THOUSANDS.test(bare) ? bare.replaceAll(',', '') : bare.replace(',', '.');
    return NUMBER.test(number) && Number.isFinite(Number(number)) ? Number(number) : NaN;
  }

  // A number that lies exactly between two, an odd multiple of 2^-(digits + 1), goes to the even one, as in Python.
  function rounded(value, digits) {
    const tie = Math.abs((value * 2 ** (digits + 1)) % 2) === 1, down = Math.floor(value * 10 ** digits);
    return tie ? (down + Math.abs(down % 2)) / 10 ** digits : Number(value.toFixed(digits));
  }

  // With as many digits as a number has.
  const asTyped = value => value.toLocaleString('en-US', { maximumSignificantDigits: 10 });

  const refusal = typed => `The prediction '${typed.trim()}' is not a number: type digits, such as 40 or 2.5.`;

  function verdict({ result, digits, unit }, typed) {
    const guess = read(typed, unit), shown = rounded(result, digits);
    if (guess === null) return 'You have not predicted anything; the box is above.';
    if (Number.isNaN(guess)) return refusal(typed);
    const predicted = `You predicted ${asTyped(guess)} ${guess === 1 ? one(unit) : unit}`.trim();
    if (rounded(guess, digits) === shown) return `${predicted}: right.`;
    const distance = asTyped(Math.abs(guess - shown));
    const many = unit.replace('%', 'points').replace('times', ''), points = `${distance} ${distance === '1' ? one(many) : many}`.trim();
    return `${predicted}, which is ${points} ${guess > shown ? 'above' : 'below'} it.`;
  }

  function prediction(form) {
    const { page } = form.dataset, input = form.querySelector('input'), said = form.querySelector('.said');
    const mine = name => document.querySelectorAll(`.${name}[data-prediction="${form.id}"]`);
    const results = [...mine('compared')].map(node => {
      const shown = element('span');
      node.querySelector('p').append(' ', shown);
      return { data: JSON.parse(node.querySelector('.live-data').textContent), shown };
    });
    const compare = () => {
      for (const { data, shown } of results) shown.textContent = verdict(data, input.value);
      const guess = read(input.value, results[0].data.unit);
      said.textContent = guess === null ? '' : Number.isNaN(guess) ? refusal(input.value) : 'What came out is open below.';
      return Number.isFinite(guess) && guess !== null;
    };
    const open = () => {
      if (!compare()) {
        said.textContent ||= 'Type a number first, or open what came out without one.';
        return;
      }
      for (const node of mine('covered')) node.open = true;
      store.write(page, { moved: true, predictions: { ...store.read(page).predictions, [form.id]: input.value } });
    };
    form.addEventListener('submit', event => { event.preventDefault(); open(); });
    input.addEventListener('change', () => { if (input.value.trim()) open(); });
    input.value = store.read(page).predictions?.[form.id] ?? '';
    if (input.value) open(); else compare();
  }

  Object.assign(window.madlab, { verdict });
  document.addEventListener('DOMContentLoaded', () => document.querySelectorAll('.prediction').forEach(prediction));
})();
