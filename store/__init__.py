"""The store: one SQLite file (or a PostgreSQL database) that holds all thumbtune knows. Imports nothing of ours."""
