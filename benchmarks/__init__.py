"""The product beside its peers, measured in the same run: `make bench`, or `python -m benchmarks NAME ...`."""
