"""What crosses between processes: frames, journal records, log lines and reports.

The keeper imports this package, so this package uses only the standard library. All other packages
may import it too. In contrast, only the command line may import ``keeper``.
"""
