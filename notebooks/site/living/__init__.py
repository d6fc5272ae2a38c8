"""How the site makes the course live without a kernel.

record, pictures            run in the kernel of each notebook while the site is built: every panel that is shown is
                            driven through its states, and writes their pictures and notes
pages, markup, course       run in Sphinx: they turn what was recorded into the elements that ../static/*.js move
formulas                    draws formulas, with KaTeX
"""
