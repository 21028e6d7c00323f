# SPDX-License-Identifier: BSD-3-Clause
"""The starter and the session's server: they run inside the job, as the user, on a worker."""
