"""The program in the keeper's container: samples, nightly dumps, parking under memory pressure.

Standard library only, and as little of it as will do: the image has Postgres's programs and a bare Python. `pilot/`
uses its parts too, for `make status` and `make room`.
"""
