// Panels that are arithmetic, computed in the page: the same numbers and notes as the panels of madlab/widgets.
// tests/browser/test_site_in_browser.py compares both on random values.
(() => {
  'use strict';
  const { element } = window.madlab;
  const sum = numbers => numbers.reduce((a, b) => a + b, 0);
  const grouped = number => String(number).replace(/\B(?=(\d{3})+$)/g, ',');

  // ---- Drawing: bars are elements, so that their text keeps its size on a phone.

  // rows: [name, value, text, class]; mark: a value at which a dashed line stands.
  function bars(rows, most, mark) {
    const place = share => `${Math.max(0, Math.min(1, share / most)) * 100}%`;
    return element('div', { className: 'bars' }, ...rows.flatMap(([name, value, text, kind]) => {
      const fill = element('i', { className: kind }), track = element('span', { className: 'track' }, fill);
      fill.style.width = place(value);
      if (mark) { track.classList.add('marked'); track.style.setProperty('--mark', place(mark)); }
      return [element('span', { className: 'name', textContent: name }), track, element('b', { textContent: text })];
    }));
  }

  // The end of an axis of four even steps that reaches a value.
  function endOf(value) {
    const size = 10 ** Math.floor(Math.log10(value / 4));
    return 4 * size * [1, 2, 2.5, 5, 10].find(factor => 4 * factor * size >= value);
  }

  // lines: [points, class]; dots: [x, y] to mark. Axes from 0 to the ends given.
  function chart(lines, dots, ends, label) {
    const [width, height, left, bottom] = [330, 200, 46, 36], svg = (name, attributes, text) => {
      const made = document.createElementNS('http://www.w3.org/2000/svg', name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      if (text !== undefined) made.textContent = text;
      return made;
    };
    const x = value => left + value / ends[0] * (width - left - 10), y = value => height - bottom - value / ends[1] * (height - bottom - 10);
    const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, class: 'chart', 'aria-hidden': 'true' });
    root.append(svg('path', { d: `M${left} 10V${height - bottom}H${width - 10}`, class: 'axis' }));
    for (let i = 0; i <= 4; i++) {
      root.append(svg('text', { x: x(ends[0] * i / 4), y: height - bottom + 15, 'text-anchor': 'middle' }, Math.round(ends[0] * i / 4)));
      root.append(svg('text', { x: left - 6, y: y(ends[1] * i / 4) + 4, 'text-anchor': 'end' }, grouped(Math.round(ends[1] * i / 4))));
    }
    root.append(svg('text', { x: (left + width) / 2, y: height - 4, 'text-anchor': 'middle' }, label));
    for (const [points, kind] of lines) root.append(svg('polyline', { points: points.map(([a, b]) => `${x(a)},${y(b)}`).join(' '), class: kind }));
    for (const [a, b] of dots) root.append(svg('circle', { cx: x(a), cy: y(b), r: 6, class: 'dot' }));
    return root;
  }

  // ---- The decathlon's score, as in madlab/benchmarks/score.py. Controls are named like domains, with underscores.

  function shares({ baseline }, errors) {
    return Object.fromEntries(Object.entries(baseline).map(([name, accuracy]) => {
      const most = 2 * (100 - accuracy);
      return [name, 1000 / most ** 2 * Math.max(0, most - errors[name]) ** 2];
    }));
  }

  const score = {
    compute(numbers, values) {
      const names = Object.keys(numbers.baseline), errors = Object.fromEntries(names.map(name => [name, values[name.replace(/-/g, '_')]]));
      const now = shares(numbers, errors);
      const better = shares(numbers, Object.fromEntries(names.map(name => [name, Math.max(0, errors[name] - 1)])));
      const next = Object.fromEntries(names.map(name => [name, better[name] - now[name]]));
      const total = sum(Object.values(now)), mean = sum(names.map(name => 100 - errors[name])) / names.length;
      const largest = of => names.reduce((best, name) => (of[name] > of[best] ? name : best));
      const [most, dearest] = [largest(now), largest(next)];
      let note = now[most] - Math.min(...Object.values(now)) < 0.5
        ? `All domains earn the same, ${now[most].toFixed(0)} points. `
        : `Largest share: <b>${most}</b>, ${now[most].toFixed(0)} points, ${(100 * now[most] / total).toFixed(0)}% of S. `;
      note += next[dearest] < 0.5
        ? 'One more point of accuracy is worth nothing anywhere.'
        : `One more point of accuracy is worth most in <b>${dearest}</b>: +${next[dearest].toFixed(0)}.`;
      return { note, score: total, mean, shares: now, next_point: next };
    },
    after(numbers, values, moved) {
      if (moved !== 'start') return { ...values, start: numbers.own };
      const row = numbers.rows[values.start];
      if (!row) return values;
      return { ...values, ...Object.fromEntries(Object.entries(row).map(([name, accuracy]) => [name.replace(/-/g, '_'), 100 - accuracy])) };
    },
    draw(place, state, values) {
      const title = `S = ${grouped(state.score.toFixed(0))} of 10,000, mean accuracy ${state.mean.toFixed(2)} % (${values.start})`;
      const rows = Object.entries(state.shares).map(([name, share]) => [name, share, share.toFixed(0), share >= 249.95 ? 'good' : 'poor']);
      place.replaceChildren(element('strong', { textContent: title }), bars(rows, 1000, 250),
        element('small', { textContent: 'points of the score S; dashed: 250, what fine-tuning earns' }));
    },
  };

  // ---- Parameters of adapters, as in madlab/analysis/counting.py.

  const budget = {
    compute({ shapes, norms, layers }, values) {
      const kernel = layers[values.layers], adapted = shapes[values.network].filter(([, , k]) => kernel === 'all' || k === kernel);
      const filters = sum(shapes[values.network].map(([m, n, k]) => m * n * k * k));
      const full = sum(adapted.map(([m, n]) => m * n)), perRank = sum(adapted.map(([m, n]) => m + n));
      const adapter = values.factorise ? values.rank * perRank : full, total = filters + (values.domains - 1) * adapter;
      const saving = values.factorise && full ? 1 - adapter / full : null;
      let note = `One adapter: <b>${grouped(adapter)}</b> parameters, ${(100 * adapter / filters).toFixed(1)}% of the filters`;
      if (saving !== null) note += `, ${(100 * Math.abs(saving)).toFixed(2)}% ${saving >= 0 ? 'less' : '<b>more</b>'} than full MAD`;
      note += `. Each domain also owns ${grouped(norms[values.network])} parameters of BatchNorm, and its head.`;
      const limit = Math.max(0, ...adapted.map(([m, n]) => Math.min(m, n)));
      if (values.factorise && adapted.length && values.rank > limit) {
        note += ' <b>This rank is above min(M, N) of every adapted layer: madlab would refuse it.</b>';
      }
      return { note, adapter, total, ratio: total / filters, saving, networks: values.domains * filters, filters, full, perRank };
    },
    after(numbers, values, moved) {
      return moved === 'rank' ? { ...values, factorise: true } : values;
    },
    draw(place, state, values, { highest }) {
      const { filters, total, networks, full, perRank } = state, million = count => `${(count / 1e6).toFixed(1)} M = ${(count / filters).toFixed(2)}×`;
      const title = `${values.network}, ${values.domains} domain${values.domains > 1 ? 's' : ''}: ${state.ratio.toFixed(2)} networks’ worth`;
      const rows = [['one network', filters, 'plain'], ['base + adapters', total, 'good'], [`${values.domains} network${values.domains > 1 ? 's' : ''}`, networks, 'strong']];
      const left = element('div', {}, element('strong', { textContent: title }),
        bars(rows.map(([name, count, kind]) => [name, count, million(count), kind]), Math.max(total, networks, filters)));
      const most = endOf(Math.max(full, highest * perRank, 1) / 1e3), dot = values.factorise ? [[values.rank, values.rank * perRank / 1e3]] : [];
      const lines = [[[[0, 0], [highest, highest * perRank / 1e3]], 'by-rank'], [[[0, full / 1e3], [highest, full / 1e3]], 'full']];
      const right = element('div', {}, element('strong', { textContent: full ? `pays below I = ${(full / perRank).toFixed(1)}` : 'nothing to adapt' }));
      if (full) right.append(chart(lines, dot, [highest, most], 'rank I'), element('small', { textContent: 'thousand parameters per domain; dashed: full α' }));
      place.replaceChildren(element('div', { className: 'beside' }, left, right));
    },
  };

  // ---- The model of such a panel; its state: name of a control -> value, the text for a menu.

  const SCRIPTS = { score, budget };

  class Computed {
    constructor(node, data) {
      this.script = SCRIPTS[data.script];
      this.numbers = data.numbers;
      this.place = node.querySelector('.live-picture');
      this.start = Object.fromEntries(data.controls.map(control => [control.name, control.value]));
      this.controls = data.controls;
      this.about = 'Computed in this page.';
    }
    has() { return true; }
    value(state, control) { return state[control.name]; }
    text(control, value) { return typeof value === 'number' ? String(Number(value.toFixed(4))) : String(value); }
    offered(state, control) {
      if (control.kind === 'choice') return control.values;
      if (control.kind === 'switch') return [false, true];
      const steps = Math.round((control.max - control.min) / control.step), now = state[control.name];
      const values = Array.from({ length: steps + 1 }, (_, i) => Number((control.min + i * control.step).toFixed(6)));
      return values.includes(now) ? values : [...values, now].sort((a, b) => a - b);
    }
    to(state, control, value) {
      return value === state[control.name] ? state : this.script.after(this.numbers, { ...state, [control.name]: value }, control.name);
    }
    at(wanted) {
      const state = { ...this.start };
      for (const [control, text] of wanted) {
        const value = this.offered(state, control).find(one => this.text(control, one) === text) ?? Number(text);
        const fits = text.trim() && (Number.isInteger(value) || !Number.isInteger(control.step));  // no rank of 3.7
        const between = control.kind === 'slider' && fits && control.min <= value && value <= control.max;  // not every one is a step
        if (between || this.offered(state, control).includes(value)) state[control.name] = value;
      }
      return state;
    }
    show(state) {
      const computed = this.script.compute(this.numbers, state);
      this.script.draw(this.place, computed, state, this.numbers);
      return computed.note;
    }
    entries(state) {
      return this.controls.filter(control => state[control.name] !== this.start[control.name])
        .map(control => [control.name, this.text(control, state[control.name])]);
    }
  }

  window.madlab = Object.assign(window.madlab || {}, { Computed, arithmetic: SCRIPTS });
})();
