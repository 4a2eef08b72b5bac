"""What the product adds to a chat page, measured on real pages beside a bare Playwright script."""
