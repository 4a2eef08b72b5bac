"""A child whose login has a proxy, in a network of its own where every packet is seen: nothing goes past the proxy."""
