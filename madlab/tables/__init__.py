"""Tables of many runs, as pandas frames and as text.

frame       one row per run, from which the other tables are computed
report      accuracy, parameters and score of every method: `madlab report`
entries     rows of a benchmark, published and ours
comparison  our runs beside the published rows: `madlab report --benchmark`
layers      what choices of adapted layers reach
submission  predictions in the form that the Decathlon challenge takes
"""
