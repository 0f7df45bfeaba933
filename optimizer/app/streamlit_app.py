"""The frame of every page, and the script that Streamlit runs."""

from pathlib import Path

import streamlit as st

from optimizer.app.app_pages.findings import ASKED, findings
from optimizer.app.app_pages.history import history
from optimizer.app.app_pages.overview import overview
from optimizer.app.app_pages.plan import plan
from optimizer.app.app_pages.scenarios import scenarios
from optimizer.app.words import errors_as_sentences

ICON = Path(__file__).with_name("icon.svg")

st.set_page_config(page_title="optimizer", page_icon=ICON, layout="wide")
start = st.Page(overview, title="Overview", icon=":material/monitoring:", default=True)
search = st.Page(findings, title="Findings", icon=":material/search:")
page = st.navigation(
    [
        start,
        search,
        st.Page(scenarios, title="Scenarios", icon=":material/balance:"),
        st.Page(plan, title="Plan", icon=":material/checklist:"),
        st.Page(history, title="History", icon=":material/history:"),
    ],
    position="top",
)
if page == start and ASKED in st.query_params:  # a link such as http://host/?finding=ID
    st.switch_page(search, query_params={ASKED: st.query_params[ASKED]})
with errors_as_sentences():
    page.run()
