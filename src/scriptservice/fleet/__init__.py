"""The fleet: connects stored commands with the keepers that run them.

``transport`` is the interface to a keeper, ``local`` its implementation for this machine's keeper.
``dispatcher`` sends commands to a keeper; ``recorder`` stores what the keeper's journal says about
the commands. ``dispatcher`` and ``recorder`` use only the interface.
"""
