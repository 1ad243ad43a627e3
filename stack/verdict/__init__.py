"""Did the pilot earn its keep? Figures from Coder's API, the Docker Engine and the samples of the timer.

Data flows one way: `collect` asks and keeps the raw answers, `figures` computes from them and from nothing else,
`judge` holds them against the thresholds, `report` puts them into words; `terminal` and `page` only lay out. Nothing
here writes to Coder, to its database or to the engine. A figure that cannot be known is None, never zero.
"""
