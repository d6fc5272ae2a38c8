// Quizzes, exercises and the reader's progress. What was answered and solved is kept in this browser and nowhere else.
(() => {
  'use strict';
  const store = {
    read(page) {
      try { return JSON.parse(localStorage.getItem(`madlab:${page}`)) || {}; } catch { return {}; }
    },
    write(page, change) {
      try { localStorage.setItem(`madlab:${page}`, JSON.stringify({ ...store.read(page), ...change })); } catch { /* private mode: nothing is kept */ }
      showProgress();
    },
  };

  window.madlab.store = store;

  function shuffle(node) {
    const children = [...node.children];
    for (let i = children.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1));
      [children[i], children[j]] = [children[j], children[i]];
    }
    node.append(...children);
  }

  function quiz(node) {
    const { questions } = JSON.parse(node.querySelector('.live-data').textContent), { page } = node.dataset;
    const chosen = store.read(page).quiz || {};
    const fields = [...node.querySelectorAll('fieldset')];
    const show = () => {
      fields.forEach((field, number) => {
        const answer = questions[number].answers[chosen[number]];
        field.querySelector('.feedback').innerHTML = answer ? answer[1] : '';
        field.dataset.verdict = answer ? (answer[2] ? 'right' : 'wrong') : '';
      });
      const right = questions.filter(({ answers }, number) => answers[chosen[number]]?.[2]).length;
      const answered = questions.every((_, number) => chosen[number] in questions[number].answers);
      node.querySelector('.quiz-total').textContent = answered ? `${right} of ${questions.length} right.` : '';
      return right;
    };
    fields.forEach((field, number) => {
      shuffle(field.querySelector('.answers'));
      for (const input of field.querySelectorAll('input')) {
        input.checked = Number(input.value) === chosen[number];
        input.addEventListener('change', () => {
          chosen[number] = Number(input.value);
          store.write(page, { quiz: chosen, right: show() });
        });
      }
    });
    show();
  }

  function exercise(node) {
    const { page, exercise: name } = node.dataset, input = node.querySelector('input');
    input.checked = (store.read(page).solved || []).includes(name);
    input.addEventListener('change', () => {
      const others = (store.read(page).solved || []).filter(other => other !== name);
      store.write(page, { solved: input.checked ? [...others, name] : others });
    });
  }

  function showProgress() {
    for (const link of document.querySelectorAll('a[data-page]')) {
      const { right = 0, solved = [], moved = false } = store.read(link.dataset.page), said = [];
      if (right) said.push(`quiz ${right} right`);
      if (solved.length) said.push(`${solved.length} solved`);
      if (moved && !said.length) said.push('begun');
      link.querySelector('.progress').textContent = said.length ? ` · ${said.join(', ')}` : '';
      link.classList.toggle('begun', said.length > 0);
    }
  }

  document.addEventListener('madlab-moved', ({ detail: page }) => { if (page && !store.read(page).moved) store.write(page, { moved: true }); });
  window.addEventListener('pageshow', showProgress);  // also where the browser brings a page back as it was
  document.addEventListener('DOMContentLoaded', () => {
    document.querySelectorAll('.quiz').forEach(quiz);
    document.querySelectorAll('.solved').forEach(exercise);
    showProgress();
    for (const node of document.querySelectorAll('pre, .table-wrapper, .cell_output, .formula')) {
      if (node.scrollWidth > node.clientWidth) node.tabIndex = 0;  // so that a keyboard can scroll it
    }
    for (const erase of document.querySelectorAll('.forget-progress')) {
      erase.addEventListener('click', () => {
        try {
          Object.keys(localStorage).filter(key => key.startsWith('madlab:')).forEach(key => localStorage.removeItem(key));
          erase.textContent = 'erased';
        } catch { erase.textContent = 'this browser keeps nothing'; }
        showProgress();
      });
    }
  });
})();
