"""Import (thumbnail, title) pairs from files into the store, without YouTube's API."""

from thumbtune.importing.sources import BadRow, ImportFailed, Row, open_source
from thumbtune.importing.writing import Imported, import_rows

__all__ = ["BadRow", "ImportFailed", "Imported", "Row", "import_rows", "open_source"]
