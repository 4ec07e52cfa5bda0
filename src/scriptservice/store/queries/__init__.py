"""SQL statements as plain functions of a connection, one module for each noun."""
