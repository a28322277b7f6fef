"""The figures that melt is held to, measured: `make bench`, or `python -m benchmarks [NAME…]`.

One line of JSON a figure: `name`, `value` (the median of its rounds), `unit`, `target` (lowest and highest allowed,
null where there is no bound), `ok`, `n` (rounds that gave a value). The rounds of all figures are interleaved in one
run, so that a slow minute of the machine meets every figure and not one of them. What a round gave is told on stderr.

pytest-benchmark is not underneath: it times a call inside its own process, one function after the other. A round here
is whole processes (an agent beside a sleeping engine, a session of melt against a program without it) and gives
shares, ratios and percentiles that are not the time of any call.
"""
