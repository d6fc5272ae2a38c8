"""Runs: what was asked for (recipe, config), how it is trained and tested, and what is kept of it (folder, record)."""
