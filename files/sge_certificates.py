# SPDX-License-Identifier: BSD-3-Clause
"""Make and renew certificates for the hub and the proxy: ``sge_certificates.py FOLDER NAME …``."""

from __future__ import annotations

import sys

from gridhub.hub.certificates import main

if __name__ == "__main__":
    sys.exit(main())
