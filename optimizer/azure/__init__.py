"""The only door to Azure: connection, retries, and one thin module for each family of SDK."""
