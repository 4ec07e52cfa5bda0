"""The command line: one module for each group of verbs; ``main`` is where it begins."""
