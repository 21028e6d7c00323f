"""The settings of the maintenance program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridhub.maintenance.errors import MaintenanceError
from gridhub.maintenance.settings import read_settings


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reboot": "sometimes"}, "'always' or 'when_required', not 'sometimes'"),
        ({"free_mb": "1000"}, "free_mb cannot be '1000'"),
        ({"free_mb": True}, "free_mb cannot be True"),
        ({"backup_keep": -1}, "backup_keep must not be negative"),
        ({"backup_keep": 0}, "backup_keep must be at least 1"),
        ({"speed": 1}, "no setting 'speed'"),
    ],
)
def test_wrong_settings_are_named(changed: dict[str, object], message: str, tmp_path: Path) -> None:
    file = tmp_path / "maintenance.json"
    file.write_text(json.dumps(changed))
    with pytest.raises(MaintenanceError, match=message):
        read_settings(file)
