"""What was collected, kept as Parquet; what was done, kept in a ledger."""
