"""A child on real chat pages compared with a bare Playwright script: `python -m benchmarks pages`.

`benchmark` has the targets and the tables, `measure` the measurements. `bare_script` is the script, which `script_plan`
gives the browser and the steps of the site file; `client` is the client of the API; `timestamped_app` runs the apps.
"""
