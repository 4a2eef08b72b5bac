"""What a login profile is, for both programs: a Playwright storage_state that a browser loads.

A profile goes through these in turn, each of which raises `contract.errors.BadProfile`:

profile_file  reads the file: regular, readable, at most `MAX_PROFILE_BYTES`
document      turns its bytes into a JSON document, as strictly as Playwright's driver reads it
schema        says what a storage_state must be, field by field
summary       tells what of it makes the login (`fingerprint`), and when that expires

The form is that of https://playwright.dev/python/docs/api/class-browsercontext#browser-context-storage-state, with
two keys of our own beside cookies and origins: `secrets`, what a child fills in where it logs in by itself, and
`sessionStorage`, what a tab holds of each origin.
"""
