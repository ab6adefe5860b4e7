"""The page's files: one shell at the address of each room, and assets from a fixed table of names."""

from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from octavo.server.refused import RefusedError

ROOMS = ("/learn", "/play", "/look", "/talk")
SCRIPT, STYLE, PICTURE = "text/javascript; charset=utf-8", "text/css; charset=utf-8", "image/svg+xml"
MODULES = (
    "api", "attention", "calibration", "chart", "chips", "copies", "curves", "dom", "grid", "heads", "history",
    "knobs", "learn", "lens", "look", "main", "map", "off", "parts", "play", "report", "rivals", "samples", "talk",
    "text", "theme", "time", "tokens", "turns", "weights",
)  # fmt: skip
ASSETS = {
    **{f"{name}.js": SCRIPT for name in MODULES},
    "page.css": STYLE,
    "rooms.css": STYLE,
    "look.css": STYLE,
    "octavo.svg": PICTURE,
}
OPEN = frozenset({"/", *ROOMS, *(f"/assets/{name}" for name in ASSETS)})  # what comes without a key: nobody's words
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

page = APIRouter(include_in_schema=False)


@page.get("/")
async def open_page(request: Request) -> RedirectResponse:
    """The room to begin in, as whoever made the application says: where a training is watched, that is /learn."""
    return RedirectResponse(getattr(request.app.state, "home", "/play"), headers={"Cache-Control": "no-cache"})


def show_shell() -> Response:
    """The page itself, which looks at its own address to know the room."""
    return Response(read("shell.html"), media_type="text/html; charset=utf-8", headers=HEADERS)


for room in ROOMS:
    page.add_api_route(room, show_shell, methods=["GET"])


@page.get("/assets/{name}")
def show_asset(name: str) -> Response:
    """A file of the page. The name is looked up in a table and never becomes a path."""
    if name not in ASSETS:
        raise RefusedError(404, f"no file {name!r:.80} belongs to the page; open /play")
    return Response(read(name), media_type=ASSETS[name], headers=HEADERS)


def read(name: str) -> bytes:
    """A file that came with octavo."""
    return (files("octavo.server.page") / "static" / name).read_bytes()
