"""The chat apps of this benchmark; each except the demo site runs in its own virtual environment."""
