"""One request on its way to a child and back: let in, leased, forwarded byte by byte, ended once."""
