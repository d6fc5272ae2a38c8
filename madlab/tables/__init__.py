"""Tables of many runs: the report, the comparison with published rows, and the Decathlon challenge's submission."""
