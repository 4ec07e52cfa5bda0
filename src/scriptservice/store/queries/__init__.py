"""The tables' statements, one module for each noun."""
