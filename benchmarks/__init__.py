"""Programs that measure the product on estates whose truth is known; each prints a table."""
