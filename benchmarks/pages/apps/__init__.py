"""The chat apps of this benchmark; each but the demo site's runs in an environment of its own."""
