"""The app's frame: page config, navigation, model picker, job panel. Everything else is on the pages."""

import streamlit as st
from streamlit.navigation.page import Page

from pages.shared.brand import ICON, LOGO
from pages.shared.errors import show_errors
from pages.shared.jobs.panel import show_job_panel
from pages.shared.jobs.places import draw_page
from pages.shared.picker import pick_model, show_open_model
from pages.shared.style import apply_style

SECTIONS = {
    "Explore": (
        ("pages/explore/overview/page.py", "Overview", "map", ""),
        ("pages/explore/neurons/page.py", "Neurons", "scatter_plot", "neurons"),
        ("pages/explore/experts/page.py", "Experts", "hub", "experts"),
        ("pages/explore/compare/page.py", "Compare", "compare_arrows", "compare"),
    ),
    "Intervene": (
        ("pages/intervene/clamp/page.py", "Clamp", "tune", "clamp"),
        ("pages/intervene/skills/page.py", "Skills", "school", "skills"),
        ("pages/intervene/unlearn/page.py", "Unlearn", "backspace", "unlearn"),
    ),
    "Record": (
        ("pages/record/findings/page.py", "Findings", "book", "findings"),
        ("pages/record/runs/page.py", "Runs", "history", "runs"),
    ),
}


def page(script: str, title: str, icon: str, path: str) -> Page:
    """Declare a page; the one without a path is `/`."""
    return st.Page(script, title=title, icon=f":material/{icon}:", url_path=path or None, default=not path)


st.set_page_config(page_title="Headlamp", page_icon=ICON, layout="wide")
st.logo(LOGO, size="large")
apply_style()
here = st.navigation({section: [page(*row) for row in rows] for section, rows in SECTIONS.items()})
with show_errors():
    open_model = pick_model()
    with draw_page(here.url_path):
        with st.sidebar:
            show_job_panel()
        here.run()
    show_open_model(open_model)
