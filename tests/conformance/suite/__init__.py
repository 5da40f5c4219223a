"""The tests, as data.

Names, features, requests and expected outcomes are those of conformance/tests/mesh/ of Gateway API v1.6.3 (Go module
sigs.k8s.io/gateway-api/conformance), or of its main branch where a test says so.  Routes are written here.
"""

from tests.conformance.suite.base import Test
from tests.conformance.suite.filters import FILTER_TESTS
from tests.conformance.suite.grpc import GRPC_TESTS
from tests.conformance.suite.matching import MATCHING_TESTS
from tests.conformance.suite.mesh import MESH_TESTS
from tests.conformance.suite.redirects import REDIRECT_TESTS

TESTS = (*MESH_TESTS, *MATCHING_TESTS, *FILTER_TESTS, *REDIRECT_TESTS, *GRPC_TESTS)

__all__ = ["TESTS", "Test"]
