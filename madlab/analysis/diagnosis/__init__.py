"""Why a training disappoints: what is measured, what a run's numbers say, and recorded runs that were made to fail.

`diagnose` is `madlab diagnose`. Built in notebook 12; the records come from data_scripts/failures.py.
"""

from madlab.analysis.diagnosis.change import filter_change as filter_change
from madlab.analysis.diagnosis.change import filter_turn as filter_turn
from madlab.analysis.diagnosis.diagnose import as_lines as as_lines
from madlab.analysis.diagnosis.diagnose import diagnose as diagnose
from madlab.analysis.diagnosis.evidence import Evidence as Evidence
from madlab.analysis.diagnosis.evidence import gather as gather
from madlab.analysis.diagnosis.failures import Failure as Failure
from madlab.analysis.diagnosis.failures import outcome as outcome
from madlab.analysis.diagnosis.failures import read_failures as read_failures
from madlab.analysis.diagnosis.failures import verdicts_by_cause as verdicts_by_cause
from madlab.analysis.diagnosis.judge import Diagnosis as Diagnosis
from madlab.analysis.diagnosis.judge import judge as judge
