# SPDX-License-Identifier: BSD-3-Clause
"""Read the numbers of all jobs from qstat's output.

This module uses only the standard library, because the maintenance script has no third-party
packages and imports this module.
"""

from __future__ import annotations

import re

from gridhub.grid.engine import AnswerError

_NUMBER = re.compile(r"<JB_job_number>(\d+)</JB_job_number>", re.ASCII)

#: The state of a job that has finished, which Open Cluster Scheduler 9.2 may list for a while.
_FINISHED = "<state>f</state>"


def parse_job_numbers(xml: str) -> set[str]:
    """Return the number of each unfinished job that ``qstat -u '*' -xml`` lists.

    :raises AnswerError: when the list is cut off; existing jobs could be missing from it.
    """
    if "</job_info>" not in xml:
        raise AnswerError("the answer cannot be read")
    entries = (entry for entry in xml.split("</job_list>") if _FINISHED not in entry)
    return {number for entry in entries for number in _NUMBER.findall(entry)}
