"""What the tests in a browser share."""

from tests.support.browser import browser as browser
from tests.support.stage import context as context
from tests.support.stage import losing_stage as losing_stage
from tests.support.stage import own_server as own_server
from tests.support.stage import server as server
from tests.support.stage import shared_server as shared_server
from tests.support.stage import stage as stage
