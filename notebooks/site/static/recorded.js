// The model of a panel whose states were drawn when the site was built. Keys of states are as record.py writes them:
// "2,0,1", the place of each control's value, or "2,0,1,more*2", where the button `more` was then pressed twice.
(() => {
  'use strict';
  const AT_ONCE = 6;  // pictures that are loaded at the same time

  // Pictures are kept once they are decoded. What is shown comes before what may be shown next.
  class Pictures {
    constructor(folder, names) { Object.assign(this, { folder, names, ready: new Map(), queue: [], busy: 0 }); }
    get(part) {
      if (!this.ready.has(part)) {
        const image = new Image();
        image.src = `${this.folder}${this.names[part]}.webp`;
        this.ready.set(part, image.decode().then(() => image, () => { this.ready.delete(part); return image; }));
      }
      return this.ready.get(part);
    }
    expect(parts) {
      this.queue = [...new Set(parts)].filter(part => !this.ready.has(part));
      while (this.busy < AT_ONCE && this.queue.length) this.next();
    }
    next() {
      const part = this.queue.shift();
      if (part === undefined) return;
      this.busy++;
      this.get(part).finally(() => { this.busy--; this.next(); });
    }
  }

  class Recorded {
    constructor(node, data) {
      this.data = data;
      this.start = data.start;
      this.names = data.controls.filter(control => control.kind !== 'button').map(control => control.name);
      this.images = [...node.querySelectorAll('.live-picture img')];
      this.pictures = new Pictures(node.dataset.pictures, data.parts);
      this.near = false;
      new IntersectionObserver((entries, observer) => {
        if (!entries.some(entry => entry.isIntersecting)) return;
        observer.disconnect();
        this.near = true;
        this.expect();
      }, { rootMargin: '800px' }).observe(node);
    }
    get about() {
      const buttons = this.data.controls.filter(control => control.kind === 'button');
      const recorded = buttons.some(control => control.presses), missing = this.data.controls.filter(control => !this.has(control));
      return 'Drawn by the notebook when this page was built. '
        + (recorded ? 'A button shows here what was recorded for these values; with a kernel it acts on what you did before. ' : '')
        + 'In JupyterLab and Colab the controls take every value'
        + (missing.length ? `, and there is “${missing.map(control => control.label).join('”, “')}”.` : '.');
    }
    has(control) {  // what never changes anything here is not shown
      if (control.kind !== 'button') return control.values.length > 1;
      return control.presses > 0 || Object.values(this.data.moves).some(moves => control.name in moves);
    }
    places(key) { return key.split(',').slice(0, this.names.length).map(Number); }
    value(key, control) { return this.places(key)[this.names.indexOf(control.name)]; }
    text(control, value) { return control.values[value]; }
    to(key, control, value) {  // undefined if there is no such state
      const places = this.places(key), from = places.join();
      if (control.kind === 'button') return this.press(key, from, control.name);
      places[this.names.indexOf(control.name)] = value;
      const there = this.data.moves[from]?.[`${control.name}.${value}`] ?? places.join();
      return there in this.data.states ? there : undefined;
    }
    at(wanted) {
      const places = this.places(this.start), known = wanted.filter(([control, text]) => control.values.includes(text));
      for (const [control, text] of known) places[this.names.indexOf(control.name)] = control.values.indexOf(text);
      if (places.join() in this.data.states) return places.join();
      return known.reduce((key, [control, text]) => this.to(key, control, control.values.indexOf(text)) ?? key, this.start);
    }
    press(key, from, name) {
      const moved = this.data.moves[from]?.[name];
      if (moved) return moved;
      const before = key.startsWith(`${from},${name}*`) ? Number(key.split('*')[1]) : 0;
      const there = `${from},${name}*${before + 1}`;
      return there in this.data.states ? there : from;
    }
    offered(key, control) {
      return control.values.map((_, value) => value).filter(value => this.to(key, control, value) !== undefined);
    }
    show(key) {
      const parts = this.data.states[key], note = this.data.notes[parts[parts.length - 1]];
      this.key = key;
      this.images.forEach((image, column) => this.swap(image, parts[column], key));
      if (this.images.length) this.images[0].alt = this.data.alts[key] ?? new DOMParser().parseFromString(note, 'text/html').body.textContent;
      if (this.near) this.expect();
      return note;
    }
    async swap(image, part, key) {
      const { src } = await this.pictures.get(part);
      if (this.key === key && image.src !== src) image.src = src;
    }
    expect() {  // the neighbours, the nearest first
      const found = [];
      for (const control of this.data.controls.filter(control => this.has(control))) {
        if (control.kind === 'button') { found.push([1, this.to(this.key, control)]); continue; }
        const now = this.value(this.key, control);
        for (const value of this.offered(this.key, control)) found.push([Math.abs(value - now), this.to(this.key, control, value)]);
      }
      found.sort((a, b) => a[0] - b[0]);
      this.pictures.expect(found.flatMap(([, key]) => this.data.states[key].slice(0, -1)));
    }
    entries(key) {
      const pressed = key.match(/,([^,]+)\*(\d+)$/), found = [];
      for (const control of this.data.controls) {
        if (control.kind === 'button') { if (pressed && pressed[1] === control.name) found.push([control.name, pressed[2]]); continue; }
        const value = this.value(key, control);
        if (value !== this.value(this.start, control)) found.push([control.name, this.text(control, value)]);
      }
      return found;
    }
  }

  window.madlab = Object.assign(window.madlab || {}, { Recorded });
})();
