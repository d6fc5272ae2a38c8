// Panels without a kernel: this script makes the controls of every figure.live, and keeps the present state in the
// page's address. What a state is and how it is shown says a model: recorded.js swaps pictures and notes that were drawn
// when the site was built, arithmetic.js computes.
(() => {
  'use strict';
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // ---- Controls: native ones, so that keyboard, touch and screen readers work as everywhere.

  class Slider {
    constructor(id, label, moved) {
      this.input = element('input', { type: 'range', id, step: 1, min: 0 });
      this.readout = element('output', { htmlFor: id });
      this.node = element('div', { className: 'live-slider' },
        element('label', { htmlFor: id, textContent: label }), this.input, this.readout);
      this.input.addEventListener('input', () => moved(this.offered[this.input.value]));
    }
    show(offered, value, text) {
      this.offered = offered;
      this.input.max = offered.length - 1;
      this.input.value = offered.indexOf(value);
      this.input.disabled = offered.length < 2;
      this.readout.textContent = this.input.ariaValueText = text(value);
    }
  }

  class Choice {
    constructor(id, label, moved) {
      this.select = element('select', { id });
      this.node = element('div', { className: 'live-choice' },
        element('label', { htmlFor: id, textContent: label }), this.select);
      this.select.addEventListener('change', () => moved(this.offered[this.select.selectedIndex]));
    }
    show(offered, value, text) {
      if (String(offered) !== String(this.offered)) {
        this.select.replaceChildren(...offered.map(one => element('option', { textContent: text(one) })));
      }
      this.offered = offered;
      this.select.selectedIndex = offered.indexOf(value);
      this.select.disabled = offered.length < 2;
    }
  }

  class Switch {
    constructor(id, label, moved) {
      this.input = element('input', { type: 'checkbox', id });
      this.node = element('div', { className: 'live-switch' },
        this.input, element('label', { htmlFor: id, textContent: label }));
      this.input.addEventListener('change', () => moved(this.offered[Number(this.input.checked)]));
    }
    show(offered, value) {
      this.offered = offered;
      this.input.checked = offered.indexOf(value) === 1;
      this.input.disabled = offered.length < 2;
    }
  }

  class Button {
    constructor(id, label, moved) {
      this.node = element('button', { id, type: 'button', className: 'live-button', textContent: label });
      this.node.addEventListener('click', () => moved());
    }
    show() {}
  }

  const KINDS = { slider: Slider, choice: Choice, switch: Switch, button: Button };

  // ---- The address: #dial.rank=5&dial.layer=stem opens the page with the panel `dial` in that state.

  const address = {
    read: () => new URLSearchParams(location.hash.includes('=') ? location.hash.slice(1) : ''),
    of(id, entries, others = new URLSearchParams()) {
      for (const name of [...others.keys()]) if (name.startsWith(`${id}.`)) others.delete(name);
      for (const [name, value] of entries) others.set(`${id}.${name}`, value);
      return `#${String(others) || id}`;
    },
    write(id, entries) {  // not at every step of a slider: browsers refuse more than some changes a second
      clearTimeout(this.timer);
      this.timer = setTimeout(() => history.replaceState(null, '', this.of(id, entries, this.read())), 150);
    },
  };

  // A model has start, a state; offered(state, control), the values that a control may take; value(state, control);
  // text(control, value); to(state, control, value), another state, by the panel's rules; at(wanted), the state of a list
  // of [control, text], where no rule has a say; show(state), which returns the note; about, a text; and entries(state),
  // what an address has to say of it.

  class Panel {
    constructor(node) {
      const data = JSON.parse(node.querySelector('.live-data').textContent);
      const Model = data.script ? window.madlab.Computed : window.madlab.Recorded;
      this.node = node;
      this.model = new Model(node, data);
      this.controls = data.controls.filter(control => this.model.has(control)).map(control => {
        const view = new KINDS[control.kind](`${node.id}-${control.name}`, control.label, value => this.moved(control, value));
        return { ...control, view };
      });
      node.querySelector('.live-controls').append(...this.controls.map(control => control.view.node));
      this.link = element('a', { className: 'live-link', textContent: 'Link to this state' });
      const again = element('button', { type: 'button', className: 'live-again', textContent: 'Back to the start' });
      again.addEventListener('click', () => this.go(this.model.start));
      node.querySelector('.live-about').append(this.model.about, ' ', this.link, ' ', again);
      this.restore();
      // A link to a heading, or to another panel, leaves this one as it is.
      window.addEventListener('hashchange', () => { if (this.wanted().length) this.restore(); });
    }
    moved(control, value) {
      this.go(this.model.to(this.state, control, value) ?? this.state);
      document.dispatchEvent(new CustomEvent('madlab-moved', { detail: this.node.dataset.page }));
    }
    go(state) {
      this.show(state);
      address.write(this.node.id, this.model.entries(state));
    }
    show(state) {
      this.state = state;
      for (const control of this.controls) {
        if (control.kind === 'button') continue;
        const text = value => this.model.text(control, value);
        control.view.show(this.model.offered(state, control), this.model.value(state, control), text);
      }
      this.node.querySelector('.live-note').innerHTML = this.model.show(state);
      this.link.href = address.of(this.node.id, this.model.entries(state));
    }
    wanted() {  // what the address says of this panel: [control, text]
      const written = address.read();
      return this.controls.map(control => [control, written.get(`${this.node.id}.${control.name}`)])
        .filter(([, text]) => text !== null);
    }
    restore() {
      const wanted = this.wanted();
      let state = this.model.at(wanted.filter(([control]) => control.kind !== 'button'));
      for (const [control, text] of wanted.filter(([control]) => control.kind === 'button')) {
        for (let times = Number(text); times > 0 && times < 100; times--) state = this.model.to(state, control);
      }
      this.show(state);
      if (wanted.length) this.node.scrollIntoView({ block: 'center' });
    }
  }

  window.madlab = Object.assign(window.madlab || {}, { element });
  document.addEventListener('DOMContentLoaded', () => document.querySelectorAll('figure.live').forEach(node => new Panel(node)));
})();
