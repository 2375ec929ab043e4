"""What commands and the page both show: each answer is made in one place, so that the two can't disagree.

`stored` reads the store alone; `modelled` asks a model, and needs the training stack.
"""
