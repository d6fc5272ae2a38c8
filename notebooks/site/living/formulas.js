// Draws formulas for formulas.py: each line of input is {"formula", "block"}, each line of output {"html"} or {"error"}.
const katex = require(process.argv[2]);
const lines = require('node:readline').createInterface({ input: process.stdin });
lines.on('line', line => {
  const { formula, block } = JSON.parse(line);
  let answer;
  try {
    answer = { html: katex.renderToString(formula, { displayMode: block, strict: 'ignore' }) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
});
