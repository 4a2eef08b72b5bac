"""The fleet file: what single logins have of their own, and by which other names models may be asked.

`schema` says what may stand in it, `load` reads it and gives each profile its `Login`.
"""
