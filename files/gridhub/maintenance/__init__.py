# SPDX-License-Identifier: BSD-3-Clause
"""The monthly maintenance of a host; root runs it, with the host's own Python.

The modules import only the standard library and other modules of GridHub: a host without a hub has
no other packages, and packages may change while the maintenance runs. The main modules are
:mod:`.main` (the commands), :mod:`.procedure` (the steps and their order), :mod:`.schedule` (the
dates) and :mod:`.status` (the reports to an administrator).
"""
