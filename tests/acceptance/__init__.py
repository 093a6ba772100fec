"""`make acceptance`: what is promised, run for real; one line a point on standard output.

A set is an ordered list of points (sets.py), a point a function in a module of its own (points.py says what it is given and
what it answers). Where they run, what is printed and how all is cleaned up: running.py.
"""
