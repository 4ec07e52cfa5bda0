"""The server: serves HTTP on a socket that it inherits, and connects the store and the fleet.

The keeper starts ``__main__``, and ``composition`` builds and connects the parts. ``access`` checks
the origin and the token of a request. Then ``routes`` decodes and validates the request, and calls
the handler of its route. The handler calls ``commands``, and ``commands`` uses the store and the
fleet. ``http.problem_responses`` turns errors into answers.
"""
