"""The keeper: the small process that owns the running scripts of one host.

``scriptservice serve`` becomes this process. It imports the standard library only, has no threads
and no asyncio, and never opens the database, speaks HTTP or waits for its child. It appends what it
does and sees to the journal, which is the truth about every script. The socket to its child carries
requests and wake-ups that may be lost.

Reading order: ``keeper`` (the parts and the events), ``command`` (one script from start to end),
``spawn``, ``tree`` (the processes of a script), ``journal``, ``recovery`` (after a keeper's death),
``upgrade`` (in place).
"""
