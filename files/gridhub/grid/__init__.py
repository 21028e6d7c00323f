# SPDX-License-Identifier: BSD-3-Clause
"""Grid Engine's commands, formats and messages. Only this wing knows them."""
