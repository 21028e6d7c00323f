# SPDX-License-Identifier: BSD-3-Clause
"""Read the numbers of all jobs from qstat's output.

The maintenance script, which runs without third-party packages, imports this module. So the module
uses only the standard library.
"""

from __future__ import annotations

import re

from gridhub.grid.engine import AnswerError

_NUMBER = re.compile(r"<JB_job_number>(\d+)</JB_job_number>", re.ASCII)


def parse_job_numbers(xml: str) -> set[str]:
    """Return the number of each job that ``qstat -u '*' -xml`` lists.

    :raises AnswerError: when the list is cut off, because a job that is missing from such a list
        may still exist.
    """
    if "</job_info>" not in xml:
        raise AnswerError("the answer cannot be read")
    return set(_NUMBER.findall(xml))
