"""The routes, one module for each part of the contract, in four steps: decode, validate, act, respond."""
