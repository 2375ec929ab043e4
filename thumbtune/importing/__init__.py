"""Import (thumbnail, title) pairs from files into the store, without YouTube's API."""

from thumbtune.importing.reading import ImportFailed
from thumbtune.importing.sources import open_source
from thumbtune.importing.writing import Imported, import_rows

__all__ = ["ImportFailed", "Imported", "import_rows", "open_source"]
