"""What no error text may hold: words of the libraries that noticed the error."""

import re
from typing import Final

FOREIGN_WORDS: Final = re.compile(
    r"Value error|Input should|Field required|Extra inputs|not permitted|unable to parse|should (have|be|match)|"
    r"pydantic|Traceback|The requested URL|For further information|server could not|did not attempt|browser"
)
"""Words of pydantic's and werkzeug's own texts."""
