# SPDX-License-Identifier: BSD-3-Clause
"""The resource menu: what people may request, and what that means to Grid Engine."""
