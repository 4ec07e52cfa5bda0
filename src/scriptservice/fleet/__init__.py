"""The fleet: what stands between stored commands and the keepers that run them.

``transport`` is the seam, ``local`` its implementation for this machine's keeper. ``dispatcher``
sends commands out, ``recorder`` brings home what became of them; both know only the seam.
"""
