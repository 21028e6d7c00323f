# SPDX-License-Identifier: BSD-3-Clause
"""A menu for tests."""

from __future__ import annotations

import pytest

from gridhub.menu.menu import Menu
from menus import ALL, menu_of


@pytest.fixture
def menu() -> Menu:
    return menu_of(*ALL)
