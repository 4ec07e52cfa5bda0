"""What makes parts of the documentation: ``captures`` draws the terminal pictures."""
