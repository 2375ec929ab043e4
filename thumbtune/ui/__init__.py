"""The page: a web server on this machine that shows the store and queries the model.

The server imports neither torch nor the trainer: questions to the model go to one child process, which keeps it loaded.

- `server` creates the application and serves it; `guards` decides which requests are answered.
- `store_access`, `model_process` and `uploads` provide the views' data. `model_child` runs in the child process.
- `views/` has one file for each page; `templates/` and `static/` define its appearance.
- `showing` and `charts` format text and charts.
"""
