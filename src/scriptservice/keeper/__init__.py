"""The keeper: the small process that owns the running scripts of one host.

``scriptservice serve`` becomes this process. The keeper uses only the standard library, and neither
threads nor asyncio. It never opens the database, never speaks HTTP and never waits for its child.
The keeper appends everything that it does and sees to the journal, which is the truth about every
script. The socket to its child carries only requests and wake-ups, which may be lost.

Reading order: ``keeper`` (the parts and the events), ``command`` (one script from start to end),
``spawn``, ``tree`` (the processes of a script), ``journal``, ``recovery`` (after a keeper's death),
``upgrade`` (in place).
"""
