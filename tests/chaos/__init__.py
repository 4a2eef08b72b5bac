"""The chaos run, `python -m tests.chaos` or `make chaos`: requests under faults, then a count of losses.

- `runner`: the phases of a run; `report`: what it prints and whether it passes
- `scenario`: the faults; `fake_scenario` has fake children, `browser_scenario` Chromium and the demo site
- `clients`: the clients; `verification`: compares their answers with the ledger
- `fleet`, `profile_sources`: the coordinator, and the folder or bucket it reads
- `leaks`, `proc`: what is left afterwards, by /proc
- `broken/`: patches that break the coordinator, to test that a run detects them
"""
