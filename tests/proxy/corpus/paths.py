"""Ways to write a path, a host, a header or a method that a DENY rule names.

`resolve` is the judge: what an application that decodes once, merges slashes and removes dot segments would serve
for a target.  It shares no code with the proxy.  A row with `refused` may only be answered 400: some application
behind the mesh would read it as the denied path, another would not.
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evasion:
    """A request target that should meet 403, or 400 where `refused`.

    `below`: it names something under /admin, which the exact rule does not cover.  `parameters`: only servers that
    cut `;parameters` read it as /admin, so refusing it is as good as denying it.
    """

    name: str
    target: bytes
    below: bool = False
    refused: bool = False
    parameters: bool = False

    def statuses(self, exact: bool) -> tuple[int, ...]:
        """What the proxy may answer under a DENY of /admin; 200 where the exact rule has nothing to say."""
        if self.refused:
            return (400,)
        nothing = (200,) if exact and self.below else ()
        return (403, 400, *nothing) if self.parameters else nothing or (403,)


PATH_EVASIONS = (
    Evasion("plain", b"/admin"),
    Evasion("query", b"/admin?x=1"),
    Evasion("empty-query", b"/admin?"),
    Evasion("query-with-slash", b"/admin?/../public"),
    Evasion("two-slashes", b"//admin"),
    Evasion("five-slashes", b"/////admin"),
    Evasion("dot-segment", b"/./admin"),
    Evasion("dot-segments", b"/././/./admin"),
    Evasion("climb", b"/public/../admin"),
    Evasion("climb-twice", b"/a/b/../../admin"),
    Evasion("climb-over-the-root", b"/../admin"),
    Evasion("climb-far-over-the-root", b"/../../../../admin"),
    Evasion("climb-after-slashes", b"/public//../admin"),
    Evasion("climb-out-and-in", b"/admin/../admin"),
    Evasion("climb-at-the-end", b"/admin/x/..", below=True),
    Evasion("climb-inside", b"/admin/x/../y", below=True),
    Evasion("trailing-slash", b"/admin/", below=True),
    Evasion("trailing-slashes", b"/admin//", below=True),
    Evasion("trailing-dot", b"/admin/.", below=True),
    Evasion("child", b"/admin/users", below=True),
    Evasion("child-two-slashes", b"/admin//users", below=True),
    Evasion("first-letter-encoded", b"/%61dmin"),
    Evasion("last-letter-encoded", b"/admi%6e"),
    Evasion("last-letter-encoded-upper", b"/admi%6E"),
    Evasion("all-letters-encoded", b"/%61%64%6d%69%6e"),
    Evasion("encoded-dots", b"/public/%2e%2e/admin"),
    Evasion("encoded-dots-upper", b"/public/%2E%2E/admin"),
    Evasion("half-encoded-dots", b"/public/.%2e/admin"),
    Evasion("other-half-encoded-dots", b"/public/%2e./admin"),
    Evasion("encoded-dot", b"/%2e/admin"),
    Evasion("encoded-letter-after-climb", b"/x/../%61dmin"),
    Evasion("encoded-letter-after-slashes", b"//%61dmin"),
    Evasion("encoded-child", b"/admin/%75sers", below=True),
    Evasion("encoded-slash-child", b"/admin%2fusers", refused=True),
    Evasion("encoded-slash-first", b"/%2fadmin", refused=True),
    Evasion("encoded-slash-climb", b"/public%2f..%2fadmin", refused=True),
    Evasion("encoded-slash-and-dots", b"/public/..%2Fadmin", refused=True),
    Evasion("encoded-slash-upper", b"/%2Fadmin", refused=True),
    Evasion("encoded-backslash", b"/public%5c..%5cadmin", refused=True),
    Evasion("encoded-backslash-upper", b"/%5Cadmin", refused=True),
    Evasion("backslash", b"/\\admin", refused=True),
    Evasion("backslash-climb", b"/public\\..\\admin", refused=True),
    Evasion("encoded-nul-end", b"/admin%00", refused=True),
    Evasion("encoded-nul-start", b"/%00/admin", refused=True),
    Evasion("encoded-nul-suffix", b"/admin%00.css", refused=True),
    Evasion("broken-escape-end", b"/admin%", refused=True),
    Evasion("broken-escape-digit", b"/admin%2", refused=True),
    Evasion("broken-escape-letters", b"/admin%zz", refused=True),
    Evasion("broken-escape-unicode", b"/%u0061dmin", refused=True),
    Evasion("absolute-form", b"http://shop/admin"),
    Evasion("absolute-form-case", b"HTTP://shop/admin"),
    Evasion("absolute-form-other-host", b"http://other/admin"),
    Evasion("absolute-form-climb", b"http://shop/public/../admin"),
    Evasion("absolute-form-encoded", b"http://shop/%61dmin"),
    Evasion("absolute-form-slashes", b"http://shop//admin"),
    Evasion("fragment", b"/admin#x", refused=True),
    Evasion("control", b"/admin\x09", refused=True),
    Evasion("no-slash", b"admin", refused=True),
    Evasion("parameter", b"/admin;x=1", parameters=True),
    Evasion("empty-parameter", b"/admin;", parameters=True),
    Evasion("parameter-inside", b"/admin;x=1/users", below=True, parameters=True),
    Evasion("parameter-of-the-root", b"/;x/admin", parameters=True),
    Evasion("parameter-on-dots", b"/public/..;x/admin", parameters=True),
    Evasion("parameter-on-a-dot", b"/.;x/admin", parameters=True),
    Evasion("encoded-parameter", b"/admin%3bx=1", parameters=True),
    Evasion("encoded-parameter-letter", b"/%61dmin;x", parameters=True),
)

# Near misses: a rule that also stopped these would be easy to pass every evasion with.
PATHS_THAT_PASS = (
    (b"/public", b"/public"),
    (b"/", b"/"),
    (b"/administrator", b"/administrator"),
    (b"/adm", b"/adm"),
    (b"/public/admin", b"/public/admin"),
    (b"/admin/../public", b"/public"),
    (b"/public?next=/admin", b"/public?next=/admin"),
    (b"/Admin", b"/Admin"),
    (b"/%2561dmin", b"/%2561dmin"),  # decoded once only: the application sees "%61dmin"
    (b"/caf%C3%A9", b"/caf%C3%A9"),
    (b"/a%20b", b"/a%20b"),
)


def resolve(target: bytes, cut_parameters: bool = False) -> str:
    """The path that a once-decoding, slash-merging application serves; a trailing slash stays visible."""
    path = re.split(rb"[?#]", re.sub(rb"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", b"", target) or b"/")[0]
    if cut_parameters:
        path = re.sub(rb"(;|%3[bB])[^/]*", b"", path)
    text = urllib.parse.unquote(path, encoding="latin-1").replace("\\", "/").split("\0")[0]
    clean = re.sub(r"^/+", "/", posixpath.normpath("/" + text))
    return clean + ("/" if clean != "/" and re.search(r"/\.{0,2}$", text) else "")


def is_admin(target: bytes, exact: bool) -> bool:
    """Would an application of either kind serve /admin (or, unless `exact`, anything below it) for this target?"""
    readings = {resolve(target), resolve(target, cut_parameters=True)}
    return any(path == "/admin" or (not exact and path.startswith("/admin/")) for path in readings)


@dataclass(frozen=True, slots=True)
class Trick:
    """A whole request that a DENY rule on host, header or method must catch, or that must be refused as malformed.

    Where `statuses` has 200 the upstream must not have seen what the rule names.
    """

    name: str
    wire: bytes
    statuses: tuple[int, ...] = (403,)


def _get(*lines: bytes, target: bytes = b"/x", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


# the rule: hosts ["admin.shop"]
HOST_TRICKS = (
    Trick("plain", _get(b"Host: admin.shop")),
    Trick("case", _get(b"Host: ADMIN.Shop")),
    Trick("port", _get(b"Host: admin.shop:80")),
    Trick("other-port", _get(b"Host: admin.shop:8443")),
    Trick("empty-port", _get(b"Host: admin.shop:"), (403, 400)),
    Trick("trailing-dot", _get(b"Host: admin.shop."), (403, 400)),
    Trick("trailing-dot-port", _get(b"Host: admin.shop.:80"), (403, 400)),
    Trick("two-trailing-dots", _get(b"Host: admin.shop.."), (403, 400)),
    Trick("spaces-around", _get(b"Host:   admin.shop \t ")),
    Trick("no-space", _get(b"Host:admin.shop")),
    Trick("name-case", _get(b"hOST: admin.shop")),
    Trick("absolute-form", _get(b"Host: other", target=b"http://admin.shop/x")),
    Trick("absolute-form-port", _get(b"Host: other", target=b"http://admin.shop:80/x")),
    Trick("absolute-form-case", _get(b"Host: other", target=b"http://Admin.SHOP/x")),
    Trick("absolute-form-user", _get(b"Host: other", target=b"http://other@admin.shop/x"), (400,)),
    Trick("absolute-form-encoded", _get(b"Host: other", target=b"http://admin%2eshop/x"), (403, 400)),
    Trick("encoded-dot", _get(b"Host: admin%2eshop"), (403, 400)),
    Trick("encoded-letter", _get(b"Host: %61dmin.shop"), (403, 400)),
    Trick("user", _get(b"Host: other@admin.shop"), (400,)),
    Trick("two-hosts", _get(b"Host: other", b"Host: admin.shop"), (400,)),
    Trick("two-hosts-reversed", _get(b"Host: admin.shop", b"Host: other"), (400,)),
    Trick("two-hosts-http-1.0", _get(b"Host: other", b"Host: admin.shop", version=b"HTTP/1.0"), (400,)),
    Trick("list", _get(b"Host: other, admin.shop"), (400,)),
    Trick("folded", _get(b"Host:\r\n admin.shop"), (400,)),
    Trick("space-before-colon", _get(b"Host: other", b"Host : admin.shop"), (400,)),
    Trick("connection-removes-host", _get(b"Host: admin.shop", b"Connection: host"), (403, 400)),
    Trick("http-1.0", _get(b"Host: admin.shop", version=b"HTTP/1.0")),
)

# the rule: headers [x-env: test]
HEADER_TRICKS = (
    Trick("plain", _get(b"Host: shop", b"x-env: test")),
    Trick("name-case", _get(b"Host: shop", b"X-ENV: test")),
    Trick("spaces-around", _get(b"Host: shop", b"x-env:\t test \t")),
    Trick("second-of-two", _get(b"Host: shop", b"x-env: live", b"x-env: test")),
    Trick("first-of-two", _get(b"Host: shop", b"x-env: test", b"x-env: live")),
    Trick("beside-an-empty-one", _get(b"Host: shop", b"x-env:", b"x-env: test")),
    Trick("folded", _get(b"Host: shop", b"x-env:\r\n test"), (400,)),
    Trick("space-before-colon", _get(b"Host: shop", b"x-env : test"), (400,)),
    Trick("connection-removes-header", _get(b"Host: shop", b"x-env: test", b"Connection: x-env"), (403, 400, 200)),
    Trick("underscore", _get(b"Host: shop", b"x_env: test"), (403, 400)),
    Trick("list-member", _get(b"Host: shop", b"x-env: live, test")),
)

# the rule: methods [DELETE]
METHOD_TRICKS = (
    Trick("plain", b"DELETE /x HTTP/1.1\r\nHost: shop\r\n\r\n"),
    Trick("http-1.0", b"DELETE /x HTTP/1.0\r\n\r\n"),
    Trick("with-a-body", b"DELETE /x HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi"),
    Trick("lower-case", b"delete /x HTTP/1.1\r\nHost: shop\r\n\r\n", (403, 400, 501)),
    Trick("leading-space", b" DELETE /x HTTP/1.1\r\nHost: shop\r\n\r\n", (400,)),
    Trick("blank-line-first", b"\r\nDELETE /x HTTP/1.1\r\nHost: shop\r\n\r\n"),
)
