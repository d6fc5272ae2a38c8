// Runs inside the JupyterLab page, where jupyter_driver.py calls it as window.watch. It only reads: what the cells'
// outputs show, which controls are among them, and after how many milliseconds a picture or a text has changed.
window.watch = (panel => {
  const KINDS = {
    slider: '.widget-slider', dropdown: '.widget-dropdown', checkbox: '.widget-checkbox', radio: '.widget-radio',
    button: '.widget-button',
  };
  const KNOWN = Object.values(KINDS).join(), INPUTS = 'input, select, textarea, button';
  const BROKEN = /Error displaying widget|Failed to load (model|view) class|Error creating widget|Loading widget/;
  const tidy = text => (text || '').replace(/[\s\u200b]+/g, ' ').trim();
  const cells = () => panel.content.widgets.map((cell, index) => ({ cell, index })).filter(c => c.cell.model.type === 'code');
  const area = index => panel.content.widgets[index].node.querySelector('.jp-Cell-outputArea');
  const find = id => document.querySelector(`[data-control="${id}"]`);

  // A moved widget sends a comm message; the kernel says idle when it has dealt with it.
  const pending = new Set();
  let lastMessage = 0;
  panel.sessionContext.session.kernel.anyMessage.connect((_, { msg, direction }) => {
    if (direction === 'send' && msg.header.msg_type === 'comm_msg') pending.add(msg.header.msg_id);
    if (msg.header.msg_type === 'status' && msg.content.execution_state === 'idle') pending.delete(msg.parent_header.msg_id);
    lastMessage = performance.now();
  });
  const idle = () => !pending.size && panel.sessionContext.session?.kernel?.status === 'idle';

  function troubles() {
    const found = [];
    for (const { cell, index } of cells()) {
      const outputs = cell.model.outputs.toJSON(), text = tidy(cell.outputArea.node.textContent);
      for (const output of outputs.filter(o => o.output_type === 'error')) found.push(`cell ${index}: ${output.ename}: ${output.evalue}`);
      if (cell.model.sharedModel.getSource().trim() && cell.model.executionCount === null) found.push(`cell ${index} did not run`);
      if (BROKEN.test(text)) found.push(`cell ${index}: ${text.match(BROKEN)[0]}`);
      if (/Traceback \(most recent call last\)/.test(text)) found.push(`cell ${index} shows a traceback`);
      const views = outputs.filter(o => o.data && o.data['application/vnd.jupyter.widget-view+json']).length;
      if (views && !cell.outputArea.node.querySelector('.jupyter-widgets')) found.push(`cell ${index}: its widget is not drawn`);
    }
    return found;
  }

  let serial = 0;
  function controls() {
    const found = [];
    let questions = 0;
    for (const { cell, index } of cells()) {
      for (const node of cell.outputArea.node.querySelectorAll(`${KNOWN}, ${INPUTS}`)) {
        if (node.parentElement.closest(KNOWN) || !node.checkVisibility()) continue;
        node.dataset.control = ++serial;
        const kind = Object.keys(KINDS).find(name => node.matches(KINDS[name])) || node.tagName.toLowerCase();
        const label = tidy((['button', 'checkbox'].includes(kind) ? node : node.querySelector('.widget-label, label, span'))?.textContent);
        found.push({ id: serial, cell: index, kind, label: kind === 'radio' ? `quiz question ${++questions}` : label });
      }
    }
    return found;
  }

  function value(id) {
    const node = find(id), input = node.querySelector('select, input:checked, input[type=checkbox]');
    const handle = node.querySelector('.noUi-handle');
    if (handle) return handle.getAttribute('aria-valuenow');
    if (!input) return '';
    return input.type === 'checkbox' ? String(input.checked) : input.tagName === 'SELECT' ? String(input.selectedIndex) : input.value;
  }

  // What an output area shows apart from its controls; null while a picture is being decoded. A picture's address
  // changes with its bytes: the kernel sends an Image's value only when it is another one.
  function look(root) {
    const images = [...root.querySelectorAll('img')], parts = images.map(image => image.src);
    if (!images.every(image => image.complete)) return null;
    const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT, node => node.parentElement.closest(KNOWN) ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
    while (walk.nextNode()) parts.push(walk.currentNode.data);
    return parts.join('\n');
  }

  // One move: from the hand's first event to the frames in which another picture or text is seen.
  let move = null;
  const hand = () => { if (move) move.start ??= performance.now(); };
  for (const type of ['keydown', 'mousedown', 'change']) window.addEventListener(type, hand, { capture: true });
  function begin(index) {
    const mine = move = { root: area(index), start: null, first: null, last: null };
    mine.before = mine.seen = look(mine.root);
    requestAnimationFrame(function frame() {
      if (move !== mine) return;
      const seen = look(mine.root), now = performance.now();
      if (seen !== null && seen !== mine.seen) { mine.seen = seen; mine.first ??= now; mine.last = now; }
      requestAnimationFrame(frame);
    });
  }
  function progress() {
    const now = performance.now();
    if (!move) return { since: 0, answered: true, quiet: idle() ? now - lastMessage : 0 };  // after the last move
    const since = move.start === null ? 0 : now - move.start;
    return { since, answered: move.first !== null, quiet: idle() ? now - Math.max(move.last ?? 0, lastMessage, move.start ?? now) : 0 };
  }
  function end() {
    const { start, first, last, before, seen } = move;
    move = null;
    return { changed: before !== seen, first_ms: first === null ? null : first - start, last_ms: last === null ? null : last - start };
  }
  return { idle, troubles, controls, value, begin, progress, end };
})(window.panel);
