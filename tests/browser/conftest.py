"""What the tests in a browser share."""

from tests.support.browser import browser as browser
