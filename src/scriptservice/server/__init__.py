"""The server: serves HTTP on the inherited socket, and connects the store and the fleet.

The keeper starts ``__main__``, and ``composition`` builds and connects the parts. A request passes
``access`` (origin and token), then a handler in ``routes`` (decode, validate, act, respond). The
handler calls ``commands``, which acts on the store and the fleet. ``http.problem_responses`` turns
errors into answers.
"""
