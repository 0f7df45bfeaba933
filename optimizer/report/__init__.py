"""Words and rows said once for terminal, page and mail."""
