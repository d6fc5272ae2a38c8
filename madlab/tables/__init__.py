"""Tables of many runs, as pandas frames and as text.

frame        one row per run, from which the other tables are computed
outcomes     one row per run and stored form, with right or wrong for each test image
report       stored bytes, accuracy and score of every method: `madlab report`
budgets      the best form of every method at 20, 40, 90 and 180 kB
drawing      accuracy against bytes, with the Pareto front
duels        differences between two methods, their intervals and verdicts
duel_report  the same of one method against all: `madlab report --duels`
equal_size   the form of MAD that is as large as a rival, and their duel
entries      rows of a benchmark, published and ours
comparison   our runs beside the published rows: `madlab report --benchmark`
output       Markdown, and figures as files
submission   predictions in the form that the Decathlon challenge takes
"""
