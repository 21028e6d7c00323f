# SPDX-License-Identifier: BSD-3-Clause
"""Read the numbers of all jobs from qstat's output.

This module uses only the standard library, because the maintenance script has no third-party
packages and imports this module.
"""

from __future__ import annotations

import re

from gridhub.grid.engine import AnswerError

_NUMBER = re.compile(r"<JB_job_number>(\d+)</JB_job_number>", re.ASCII)


def parse_job_numbers(xml: str) -> set[str]:
    """Return the number of each job that ``qstat -u '*' -xml`` lists.

    :raises AnswerError: when the list is cut off; existing jobs could be missing from it.
    """
    if "</job_info>" not in xml:
        raise AnswerError("the answer cannot be read")
    return set(_NUMBER.findall(xml))
