"""The store: one SQLite file or PostgreSQL database. Imports no other package of thumbtune except the migrations."""
