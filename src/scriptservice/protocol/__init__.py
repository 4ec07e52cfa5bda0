"""What crosses from process to process: between command line, keeper and server.

Standard library only, since the keeper imports it. Everyone may import this package; nobody but the
command line imports ``keeper``.
"""
