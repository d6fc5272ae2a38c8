"""How the site makes the course live without a kernel.

record, pictures    run in the kernel of each notebook while the site is built: every panel that is shown is driven
                    through its states, and writes their pictures and notes
pages, formulas     run in Sphinx: they turn what was recorded into the elements that static/living.js moves, and
                    draw formulas
"""
