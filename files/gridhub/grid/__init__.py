# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's commands, formats and messages. No other part of GridHub knows them."""
