"""The fleet: connects stored commands with the keepers that run them.

``transport`` is the interface to a keeper. ``local`` implements the interface for the keeper of
this machine. ``dispatcher`` sends commands to a keeper, and ``recorder`` stores what the keeper's
journal says about the commands. ``dispatcher`` and ``recorder`` use only the interface.
"""
