"""A real browser, one chat page in it, and the answers that appear there."""
