"""
Take the pictures of the page: a made-up fleet, in Debian's Chromium.  Part of `make pictures`.

Run it as a module, `python -m docs.img.page`, from the top of the tree: the fleet is the tests'.
"""

from pathlib import Path

from reconciler.settings.model import PageSettings
from tests.controller.page.chromium import chromium, tab
from tests.controller.page.sample_fleet import Made, mixed, served

HERE = Path(__file__).parent
SHOTS = (
    ("page-fleet", "/", "light", {"width": 1180, "height": 760}),
    ("page-server", "/servers/frankfurt-1", "light", {"width": 1180, "height": 800}),
    ("page-narrow", "/", "dark", {"width": 360, "height": 780}),
)


def main() -> None:
    with served(Made(mixed()), PageSettings("127.0.0.1:0")) as page, chromium() as browser:
        for name, path, scheme, size in SHOTS:
            with tab(browser, page.url, color_scheme=scheme, viewport=size) as shown:
                shown.open(path)
                shown.page.wait_for_function(
                    "document.getElementById('line-word').textContent === 'live'"
                )
                shown.page.screenshot(path=str(HERE / f"{name}.png"))
                shown.sound()


if __name__ == "__main__":
    main()
