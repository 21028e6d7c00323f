# SPDX-License-Identifier: BSD-3-Clause
"""Make the role's module_utils importable under the name that Ansible gives them."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parents[3]
ansible.module_utils.__path__.append(str(ROOT / "roles/sge_qmaster/module_utils"))
