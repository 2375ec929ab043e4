"""Hostile input: what a stranger, or a server in a stranger's hands, may send. Each promise of SECURITY.md is tried."""
