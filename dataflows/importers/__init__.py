"""Importers: public market-data files into the archive.

`import_files` takes a format's name, files or folders, and an archive. Every row of a file is accepted
or quarantined with its bytes and a reason; a file is imported once, whole or not at all.
"""

from dataflows.importers.base import FileReport, Importer, ImportOptions, ImportProgress, ImportReport
from dataflows.importers.engine import IMPORTERS, import_files

__all__ = ["IMPORTERS", "FileReport", "ImportOptions", "ImportProgress", "ImportReport", "Importer", "import_files"]
