// Runs inside a page of the site, where test_site_in_browser.py calls it as window.watch. One move: from the hand's first
// event to the frame in which another picture or text is seen in the figure or quiz that it belongs to.
window.watch = (() => {
  let move = null;
  const look = root => {
    const images = [...root.querySelectorAll('img')];
    if (!images.every(image => image.complete && image.naturalWidth)) return null;
    const shown = root.querySelectorAll('.live-note, .live-computed, .feedback, .quiz-total, .said, .compared');
    return [...images.map(image => image.src), ...[...shown].map(node => node.innerHTML)].join('\n');
  };
  for (const type of ['keydown', 'pointerdown', 'change']) {
    window.addEventListener(type, () => { if (move) move.start ??= performance.now(); }, { capture: true });
  }
  return {
    look,
    begin(root) {
      const mine = move = { root, start: null, last: null, before: look(root), seen: look(root) };
      requestAnimationFrame(function frame() {
        if (move !== mine) return;
        const seen = look(root);
        if (seen !== null && seen !== mine.seen) { mine.seen = seen; mine.last = performance.now(); }
        requestAnimationFrame(frame);
      });
    },
    quiet: () => performance.now() - Math.max(move.last ?? 0, move.start ?? performance.now()),
    end() {
      const { start, last, before, seen } = move;
      move = null;
      return { changed: before !== seen, ms: last === null ? null : last - start };
    },
  };
})();
