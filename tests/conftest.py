"Where real pictures and tables are found, and what their absence means."
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real() -> Path:
    "The folder with real data: `HPA_REAL_DATA`, else `../shared/data` beside the repository. Absent: skipped, or failed with HPA_REQUIRE_REAL_DATA=1."
    folder = Path(os.environ.get("HPA_REAL_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "fields512").is_dir():
        (pytest.fail if os.environ.get("HPA_REQUIRE_REAL_DATA") == "1" else pytest.skip)(f"no real data in {folder}: set HPA_REAL_DATA")
    return folder
