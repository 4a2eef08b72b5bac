"""What the supervisor and its children go by: one start and its probes, ports and memory, events, limits."""
