"""The data that one process passes to another: frames, journal records, log lines and reports.

The keeper imports this package, so this package uses only the standard library. All other packages
may import this package too. In contrast, only the command line may import ``keeper``.
"""
