# SPDX-License-Identifier: BSD-3-Clause
"""Inside the job: the starter and the session's server. Run as the person, on a worker."""
