"""The session store: what a browser has made of its login, kept over the ends of children and coordinators.

One file for each login in the operator's SESSION_DIR, and beside it a fence that says whose writes count:

key     the operator's age identities (https://age-encryption.org/v1), by which files are encrypted at rest
record  the format of a file: what is saved, of which login and which version of its profile
store   reading, granting and writing, each in one step that a crash does not split
grant   what the coordinator tells a child of it at each start, through the run folder

The child writes by itself, so that nothing stands between a rotated cookie and the disk. The coordinator grants: it
raises the fence before each start, and from then on what an older start writes is refused.
"""
