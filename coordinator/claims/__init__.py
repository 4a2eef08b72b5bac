"""Claims: which login runs in which cell, where several coordinators serve one set of profiles.

store    what a store of claims can do, and how it fails
etcd     the store in etcd: etcd_api, its messages; etcd_gateway, its members and their refusals; etcd_tls
shared   what all cells must have alike; pure
keeper   the claims of this cell: claimed, renewed, given up, and ended before the store gives them to another
share    which logins a cell claims and which it gives up; pure
"""
