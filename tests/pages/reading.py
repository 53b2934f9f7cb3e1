"""What a page under AppTest shows, and pressing its buttons."""

from typing import Any

from streamlit.testing.v1 import AppTest


def press(app: AppTest, label: str) -> AppTest:
    """Click the button with this label."""
    return next(button for button in app.button if button.label == label).click().run()


def elements(app: AppTest, kind: str) -> list[Any]:
    """All elements of a kind that AppTest has no property for."""
    return list(app.get(kind))


def labels(app: AppTest, kind: str) -> list[str]:
    """The labels of all elements of a kind, such as page_link or download_button."""
    return [element.label for element in elements(app, kind)]


def html_of(app: AppTest) -> list[str]:
    """What st.html was given to show, top to bottom."""
    texts = [element.value for element in elements(app, "html")]
    return [text for text in texts if not text.startswith("<style>")]


def shown(app: AppTest) -> str:
    """All texts on the page, Markdown's escapes and word joiners taken out."""
    kinds = (app.subheader, app.markdown, app.caption, app.info, app.success, app.warning, app.error)
    texts = [str(element.value) for kind in kinds for element in kind] + html_of(app)
    return "\n".join(texts).replace("\\", "").replace("\u2060", "")
