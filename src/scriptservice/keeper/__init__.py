"""The keeper: the small process that owns the running scripts of one host.

``scriptservice serve`` becomes this process. It imports the standard library only, has no threads
and no asyncio, and never opens the database, speaks HTTP or waits for its child. What it does and
sees goes to the journal (``journal``), which is the truth about every script; the socket to its
child (``protocol``) carries requests and wake-ups that may be lost.

Reading order: ``keeper`` (who does what), ``command`` (the life of one script), ``spawn``,
``tree`` (who belongs to a script and how it is ended), ``journal``, ``recovery`` (after a death).
"""
