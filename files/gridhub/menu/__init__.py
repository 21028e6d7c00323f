# SPDX-License-Identifier: BSD-3-Clause
"""The resource menu: what people may request, and the qsub arguments for a request."""
