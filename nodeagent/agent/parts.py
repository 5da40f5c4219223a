"""What an agent is made of."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.agent import own_cgroup
from nodeagent.agent.bystanders import Bystanders
from nodeagent.agent.canary import Canary
from nodeagent.agent.configuration import Configuration
from nodeagent.agent.enrolment import Enrolment
from nodeagent.agent.fleet import Fleet
from nodeagent.agent.lease import Lease
from nodeagent.agent.netns_child import LingeringChild
from nodeagent.agent.netns_connections import NetnsConnections
from nodeagent.agent.node_kernel import MapKernel
from nodeagent.agent.observers import Observers
from nodeagent.agent.pod_finder import PodFinder
from nodeagent.agent.predecessors import Predecessors
from nodeagent.agent.programming import Programmer
from nodeagent.agent.reporting import Reporting
from nodeagent.agent.settings import Settings
from nodeagent.kernel.instance import Instance, Programs
from nodeagent.kernel.maps import Maps


@dataclass(slots=True)
class Parts:
    """Everything that lives as long as the agent."""

    settings: Settings
    lease: Lease
    instance: Instance
    programs: Programs
    cgroup: own_cgroup.OwnCgroup
    maps: Maps
    predecessors: Predecessors
    observers: Observers
    fleet: Fleet
    finder: PodFinder
    netns_child: LingeringChild
    enrolment: Enrolment
    bystanders: Bystanders
    connections: NetnsConnections
    canary: Canary
    programmer: Programmer
    kernel: MapKernel
    configuration: Configuration
    reporting: Reporting | None
