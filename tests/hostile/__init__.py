"""Hostile input from strangers or servers: tests of the guarantees in SECURITY.md."""
