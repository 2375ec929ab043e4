"""Answers that both the commands and the page show, computed in one place so that they agree.

`stored` only reads the store; `modelled` runs a model, and needs the training stack;
`documents` gives its answers as JSON.
"""
