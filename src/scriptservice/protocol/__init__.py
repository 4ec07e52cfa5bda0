"""What crosses between processes: frames, journal records, log lines and reports.

The keeper imports this package, so it uses the standard library only. Every other package may
import it too; only the command line imports ``keeper``.
"""
