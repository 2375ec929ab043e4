"""The page: a web server on this machine that shows the store and asks the model.

The server imports neither torch nor the trainer: questions to the model go to one child process, which stays warm.

- `server`: makes the application and serves it; `connections` bounds what clients may take; `guards` decides which
  requests are answered.
- `store_access`, `model_process`, `uploads`: what the views ask. `model_child` is the process at the other end.
- `views/`: one file for each page; `templates/` and `static/`: what they look like.
- `showing`, `charts`: text and figures as the page shows them.
"""
