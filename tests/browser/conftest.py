"""What the tests in a browser share."""

from tests.support.browser import browser as browser
from tests.support.dashboard_app import context as context
from tests.support.dashboard_app import losing_stage as losing_stage
from tests.support.dashboard_app import own_server as own_server
from tests.support.dashboard_app import server as server
from tests.support.dashboard_app import shared_server as shared_server
from tests.support.dashboard_app import stage as stage
