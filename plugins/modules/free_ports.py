#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Check that no other program holds the ports that a service needs."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gridhub.gridhub.plugins.module_utils.ports import (
    PORT_OPTIONS,
    taken_ports,
)

DOCUMENTATION = """
module: free_ports
short_description: Check that no other program holds the ports that a service needs
description:
  - Fails if another program listens on one of the ports, and names the program. Changes nothing.
author: GridHub contributors
options:
  ports:
    description: The ports.
    type: list
    elements: dict
    required: true
    suboptions:
      port:
        description: The number of the port.
        type: int
        required: true
      addresses:
        description: The addresses on which the service listens.
        type: list
        elements: str
        required: true
      variable:
        description: The variable that gives the service another port or other addresses.
        type: str
        required: true
  units:
    description: Names of the units that may hold the ports, because they are the service.
    type: list
    elements: str
    required: true
"""

EXAMPLES = """
- name: Check that the hub's port is free
  gridhub.gridhub.free_ports:
    ports: [{port: 8081, addresses: [0.0.0.0], variable: jupyterhub_port}]
    units: [jupyterhub.service]
"""

RETURN = """
taken:
  description: A sentence for each port that another program holds.
  returned: always
  type: list
"""


def main():
    """Look for the programs that hold the ports."""
    module = AnsibleModule(
        argument_spec={
            "ports": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": PORT_OPTIONS,
            },
            "units": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    taken = taken_ports(module.params["ports"], module.params["units"])
    if taken:
        module.fail_json(msg="; ".join(taken), taken=taken)
    module.exit_json(changed=False, taken=[])


if __name__ == "__main__":
    main()
