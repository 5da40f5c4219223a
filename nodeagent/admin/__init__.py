"""The agent's own HTTP: an admin API on a root-only unix socket, /metrics and health on TCP.

Every JSON answer carries "version": `API_VERSION`, raised when a field changes its meaning.
"""

API_VERSION = "v1"
