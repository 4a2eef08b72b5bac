"""Benchmarks of the product beside comparable programs, measured in the same run.

Run `make bench`, or `python -m benchmarks NAME ...`. One module for each benchmark: `proxy`, `hydration`, `start`,
`supervision`, `scale`, and the package `pages`. The others are what they share:

- `report`: results, their targets, and the tables that are printed
- `load`, `process_events`, `process_usage`, `rusage`, `phases`: generate load, time processes, measure CPU and memory
- `stub_fleet`, `stub_child`, `tiny_stub_child`: a real coordinator with children that answer with constant bytes
- `standalone_child`: a real child without a coordinator
- `bare_obstore`: a program that copies what is under a prefix, and nothing else
- `coordinator_*`, `hydration_phases`: entry points of the product with one thing changed or timed
"""
