"""Where does each argument's value come from? The table of rules and what they were measured on is in
docs/parameter-extraction.md.

Read `grounder.py` first: for every argument it makes a `Question` (question.py), which tracing.py answers with the
first rule that finds the value: string_rules.py and date_rules.py, number_rules.py, choice_rules.py. A rule looks in a
`TextIndex` (text_index.py), which holds words, numbers (quantities.py) and dates (calendar_dates.py). What language
knows is in spellings.py and units.py. thinking.py asks the thinking the same questions, admission.py judges replies
without a call.
"""

from callwright_rewards.grounding.conversation import Evidence
from callwright_rewards.grounding.grounder import Grounder, ground
from callwright_rewards.grounding.support import Grounding, GroundingCode, Stated, Support

__all__ = ["Evidence", "Grounder", "Grounding", "GroundingCode", "Stated", "Support", "ground"]
